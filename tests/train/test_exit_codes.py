"""What a run that is asked to stop leaves, started in each of the ways that there are: in state.json always the same."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.launcher import command as deepspeed
from xkd.train.distributed import free_port
from xkd.train.stopping import STOP_FILE

STOPPED = 75
WAYS = ("python", "deepspeed", "torchrun")
ENDLESS = ("train.global_batch=4", "train.epochs=10000", "train.log_every=1", "optim.base_batch=4")

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def plain(*arguments):
    return [sys.executable, "-m", "xkd.train", *arguments]


def torchrun(*arguments):
    options = ("--nproc-per-node", "2", "--master-port", str(free_port()))
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "xkd.train", *arguments]


def state(run_dir):
    return json.loads((run_dir / "state.json").read_text())


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)


@pytest.mark.parametrize(("way", "code"), [(plain, STOPPED), (deepspeed, STOPPED), (torchrun, 1)], ids=WAYS)
def test_a_run_that_finds_the_file_stops_after_a_step(pretrain_yaml, tmp_path, way, code):
    (tmp_path / STOP_FILE).touch()
    with start(way(str(pretrain_yaml), f"run_dir={tmp_path}", *ENDLESS)) as launcher:
        said = launcher.communicate()[0]
    assert launcher.returncode == code, said
    assert state(tmp_path) == {"status": "stopped", "step": 1, "reason": f"the file {STOP_FILE}"}
    assert not (tmp_path / STOP_FILE).exists()


def node_launcher(process):
    """DeepSpeed's launcher of this node, which its runner starts and which starts the ranks."""
    return next(child for child in process.children() if "deepspeed.launcher.launch" in child.cmdline())


def itself(process):
    return process


@pytest.mark.parametrize(
    ("way", "receiver", "code"), [(plain, itself, STOPPED), (deepspeed, node_launcher, 1), (torchrun, itself, 1)], ids=WAYS
)
def test_a_run_whose_launcher_gets_a_sigterm_has_saved(pretrain_yaml, tmp_path, way, receiver, code):
    with start(way(str(pretrain_yaml), f"run_dir={tmp_path}", *ENDLESS)) as launcher:
        while not (tmp_path / "metrics.jsonl").exists() or not (tmp_path / "metrics.jsonl").read_text():
            assert launcher.poll() is None, launcher.communicate()[0]
            time.sleep(0.01)
        receiver(psutil.Process(launcher.pid)).terminate()
        said = launcher.communicate()[0]
    assert launcher.returncode == code, said
    found = state(tmp_path)
    assert (found["status"], found["reason"]) == ("stopped", "SIGTERM")
    assert (tmp_path / "checkpoints" / "latest").read_text() == f"step-{found['step']:06d}\n"
