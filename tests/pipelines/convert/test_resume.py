"""A conversion that is killed, at any moment and any number of times, comes to the bytes of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.media import moving_bar, tone, write_clip
from xkd.pipelines.convert.write import write_shards

CLIPS, SHARD_SAMPLES = 24, 3
CALL = {"split": "train", "shard_samples": SHARD_SAMPLES, "shard_bytes": 120_000}

# Ends itself, as kill -9 does, on the n-th time that something is made durable.
KILLED_AT_A_SYNC = """
import os, signal, sys
from xkd.pipelines.convert.write import write_shards

if __name__ == "__main__":
    left, sync = int(sys.argv[3]), os.fsync

    def count(descriptor):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = count
    write_shards(sys.argv[1], sys.argv[2], split="train", shard_samples=2, workers=1)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    for index in range(CLIPS):
        if index % 8 == 7:
            (root / "a" / f"{index}.mp4").write_bytes(b"bad")
            continue
        clip = {"picture": moving_bar((200, 10 * index, 0)), "sound": tone(300 + 20 * index), "seconds": 0.5 + 0.05 * index}
        write_clip(root / "ab"[index % 2] / f"{index}.mp4", **clip)
    return root


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    write_shards(source, out, workers=2, **CALL)
    return contents(out)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(source, out):
    options = ["--dataset", "folder", "--split", "train", "--workers", "2"]
    limits = ["--shard-samples", str(SHARD_SAMPLES), "--shard-bytes", str(CALL["shard_bytes"])]
    command = [sys.executable, "-m", "xkd", "shards", "write", source, "--out", out, *options, *limits]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after(run, out, shards, seconds):
    """Kill a run a while after it has finished a number of shards."""
    deadline = time.monotonic() + 120
    while run.poll() is None and not (out.exists() and len(list(out.glob("*.tar"))) >= shards):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(seconds)
    run.send_signal(signal.SIGKILL)
    run.wait()


def kill_at_moments(source, whole, folder, moments, seed):
    """At each moment, from the start to the last shard, kill a fresh run, and let the same command end it."""
    chance, interrupted = random.Random(seed), 0
    shards = sum(name.endswith(".tar") for name in whole)
    for moment in range(moments):
        out = folder / str(moment)
        kill_after(start(source, out), out, moment * shards // moments, chance.uniform(0, 0.1))
        interrupted += out.exists() and not (out / "manifest.json").exists()
        assert write_shards(source, out, workers=2, **CALL).manifest.num_failures == CLIPS // 8
        assert contents(out) == whole, moment
    assert interrupted


@pytest.mark.long
def test_a_run_killed_at_ten_moments_ends_in_the_same_bytes(source, whole, tmp_path):
    kill_at_moments(source, whole, tmp_path, moments=10, seed=0)


@pytest.mark.soak
def test_a_run_killed_at_fifty_moments_ends_in_the_same_bytes(source, whole, tmp_path):
    kill_at_moments(source, whole, tmp_path, moments=50, seed=1)


@pytest.mark.long
def test_a_run_killed_again_and_again_ends_in_the_same_bytes(source, whole, tmp_path):
    chance = random.Random(2)
    out = tmp_path / "out"
    for _ in range(6):
        done = len(list(out.glob("*.tar"))) if out.exists() else 0
        kill_after(start(source, out), out, done + 1, chance.uniform(0, 0.05))
    assert start(source, out).wait() == 0
    assert contents(out) == whole


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_run_killed_before_any_step_of_writing_ends_in_the_same_bytes(tmp_path):
    for index in range(3):
        write_clip(tmp_path / "source" / "a" / f"{index}.mp4", seconds=0.3)
    (tmp_path / "source" / "a" / "bad.mp4").write_bytes(b"bad")
    call = {"split": "train", "workers": 1, "shard_samples": 2}
    write_shards(tmp_path / "source", tmp_path / "whole", **call)
    expected = contents(tmp_path / "whole")
    (tmp_path / "run.py").write_text(KILLED_AT_A_SYNC)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for step in range(100):
        out = tmp_path / str(step)
        command = [sys.executable, tmp_path / "run.py", tmp_path / "source", out, str(step)]
        code = subprocess.run(command, stderr=subprocess.DEVNULL, env=environment, check=False).returncode
        assert code in (0, -signal.SIGKILL)
        write_shards(tmp_path / "source", out, **call)
        assert contents(out) == expected, step
        if code == 0:
            break
    assert 20 < step < 99
