"""Runs code on a small disk."""

import os
import subprocess
import sys

import pytest

# In a mount namespace of its own, which ends with it: a small disk at FOLDER, with SIZE bytes, of which OTHERS are taken.
SMALL_DISK = 'mount -t tmpfs -o size="$2" none "$1" && head -c "$3" /dev/zero > "$1/others" && shift 3 && exec "$@"'


def on_a_small_disk_run(folder, size, others, code, *arguments):
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c", SMALL_DISK, "sh", str(folder), str(size), str(others)]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let us mount a small disk")
    arguments = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run([*unshare, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False)
