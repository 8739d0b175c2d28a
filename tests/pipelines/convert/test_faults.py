"""A disk that is full and a folder that is closed: one clear error, and the same command goes on once it is mended."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.media import write_clip
from xkd.pipelines.convert.write import write_shards

RUN = """
import os, resource, sys
from xkd.cli import main

if __name__ == "__main__":
    for name, value in zip(sys.argv[1::2], sys.argv[2::2]):
        if name == "file-size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), resource.RLIM_INFINITY))
        elif name == "user":
            import xkd.pipelines.convert.write  # as root, who may read the interpreter's files
            os.setuid(int(value))
        else:
            sys.exit(main(value.split("|")))
"""
NOBODY = 65534


@pytest.fixture(scope="module")
def source():
    """Clips that every user can read; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as made:
        for index in range(4):
            write_clip(Path(made) / "source" / "a" / f"{index}.mp4", seconds=4.0 - index)
        for path in (Path(made), *Path(made).rglob("*")):
            path.chmod(0o755)
        yield Path(made) / "source"


def run(script_folder, source, out, *limits):
    """The command with limits set on its process."""
    script = script_folder / "run.py"
    script.write_text(RUN)
    call = ["shards", "write", source, "--dataset", "folder", "--split", "train", "--out", out]
    arguments = [*limits, "call", "|".join(map(str, [*call, "--shard-samples", 1, "--workers", 1]))]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run(
        [sys.executable, script, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )


def test_a_disk_that_fills_up_is_one_error_and_the_finished_shards_are_kept(source, tmp_path):
    """A limit on the size of a file stands for the disk; the first shards' tars are below it."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    sizes = [shard.tar_bytes for shard in write_shards(source, whole, split="train", workers=1, shard_samples=1).manifest.shards]
    fitting = next(number for number in range(1, 4) if sizes[number] > max(sizes[:number]))
    done = run(tmp_path, source, out, "file-size", sizes[fitting] - 1)
    told = done.stderr.splitlines()
    assert done.returncode == 1, done.stderr
    assert told[-1].startswith(f"{out}: cannot be written (File too large); what is finished is kept: make room")
    assert "Traceback" not in done.stderr
    assert not list(out.glob("*.partial"))
    assert len(list(out.glob("*.tar"))) == fitting
    write_shards(source, out, split="train", workers=1, shard_samples=1)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {path.name: path.read_bytes() for path in whole.iterdir()}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_the_reason_of_a_full_disk_is_told(source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "journal.jsonl.partial").symlink_to("/dev/full")
    done = run(tmp_path, source, out)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"{out}: cannot be written (No space left on device)")


@pytest.mark.skipif(os.getuid() != 0, reason="changes the user")
def test_a_folder_without_permission_is_one_error(source, tmp_path):
    out = source.parent / "closed" / "out"
    out.parent.mkdir(mode=0o755, exist_ok=True)
    done = run(tmp_path, source, out, "user", NOBODY)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"{out}: cannot be written (Permission denied); what is finished is kept")
    assert len(done.stderr.splitlines()) == 1
