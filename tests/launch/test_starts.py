"""Every start trains, to the same numbers."""

import sys

import pytest

from tests import launcher
from tests.launch import cluster

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--module", "xkd.train")
STEPS = 3


def train(command, run_dir, **variables):
    """Runs a command to its end and returns its losses."""
    process = cluster.start((*command, f"run_dir={run_dir}", f"train.max_steps={STEPS}"), run_dir.parent, **variables)
    told = cluster.finish(process)
    assert process.returncode == 0, told
    return cluster.losses(run_dir)


def first(losses):
    return {step: losses[step] for step in range(1, STEPS + 1)}


def test_deepspeed_trains_as_xkd_launch_does(run, undisturbed, tmp_path):
    assert train(launcher.command(*run), tmp_path / "run") == first(undisturbed)


def test_torchrun_trains_as_xkd_launch_does(run, undisturbed, tmp_path):
    assert train((*TORCHRUN, *run), tmp_path / "run") == first(undisturbed)


def test_plain_python_trains_as_xkd_launch_does(run, undisturbed, tmp_path):
    assert train((sys.executable, "-m", "xkd.train", *run), tmp_path / "run") == pytest.approx(first(undisturbed), rel=1e-4)


def test_the_hosts_of_a_file_train_as_one_machine_does(run, undisturbed, tmp_path):
    programs = cluster.write_programs(tmp_path / "bin", pdsh=cluster.PDSH, ssh=cluster.SSH)
    (tmp_path / "hosts").write_text("first slots=1\nsecond slots=1\n")
    spaced = "model.video={tubelet: [4, 12, 12], mask_ratio: 0.5}"  # as in the file: it has to pass two shells
    command = (programs / "xkd", "launch", "--hostfile", tmp_path / "hosts", *run, spaced, "model.audio={patch: [16,16]}")
    assert train(command, tmp_path / "run", PATH=f"{programs}:/usr/bin:/bin") == first(undisturbed)
    (call,) = cluster.recorded(programs)
    assert call.startswith("pdsh -S -f 1024 -w first,second ")
