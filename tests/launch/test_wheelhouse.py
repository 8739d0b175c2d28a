"""`make wheelhouse`, and an installation from it without an index."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.launch.cluster import ROOT

EXTRA = "cuda13"


def run(*command, cwd):
    # No index, and no folder of wheels that this machine's own configuration names.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = own | {"PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.soak  # fetches 3 GB and writes 6 more
def test_the_wheelhouse_installs_everything_without_an_index(tmp_path):
    source = tmp_path / "source"
    kept = shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info", "wheelhouse", "runs", "demo")
    shutil.copytree(ROOT, source, ignore=kept)
    subprocess.run(("make", "wheelhouse", f"PYTHON={sys.executable}", f"EXTRA={EXTRA}"), cwd=source, check=True)
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-index", "--find-links", source / "wheelhouse", f"xkd-train[{EXTRA}]", cwd=tmp_path)
    shown = run(python, "-m", "xkd", "launch", "pretrain/demo.yaml", "--dry-run", cwd=tmp_path)
    assert f"{python} -m deepspeed.launcher.runner" in shown
