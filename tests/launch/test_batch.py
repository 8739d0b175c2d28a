"""The batch script and `xkd launch` in a SLURM job, as far as it can be had without SLURM: scripts stand for srun and scontrol."""

import signal

import psutil
import pytest

from tests.launch import cluster

SCRIPT = cluster.ROOT / "configs" / "launch" / "slurm.sbatch"

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def programs(tmp_path):
    return cluster.write_programs(tmp_path / "bin", srun=cluster.SRUN, scontrol=cluster.RECORD)


def calls(programs, name):
    return [line for line in cluster.recorded(programs) if line.startswith(name)]


def begun(run_dir):
    return len(cluster.losses(run_dir)) >= 2


def test_when_time_is_up_a_job_saves_is_requeued_and_comes_to_the_same_numbers(run, undisturbed, programs, tmp_path):
    job = ("bash", SCRIPT, tmp_path / "run", *run, "--ranks", "2")
    first = cluster.start(job, programs)
    cluster.wait_until(lambda: begun(tmp_path / "run"), first)
    first.send_signal(signal.SIGUSR1)
    told = cluster.finish(first)
    assert first.returncode == 75, told
    state = cluster.state(tmp_path / "run")
    assert state["status"] == "stopped"
    assert 2 <= state["step"] < max(undisturbed)
    assert calls(programs, "scontrol") == [f"scontrol requeue {cluster.JOB['SLURM_JOB_ID']}"]
    assert not (tmp_path / "run" / "STOP").exists()

    again = cluster.start(job, programs)
    told = cluster.finish(again)
    assert again.returncode == 0, told
    assert f"{state['step']} of {max(undisturbed)} steps done" in told
    assert cluster.state(tmp_path / "run")["status"] == "done"
    assert cluster.losses(tmp_path / "run") == undisturbed
    assert len(calls(programs, "scontrol")) == 1
    assert calls(programs, "srun")[0].startswith("srun --kill-on-bad-exit=1 xkd launch pretrain/demo.yaml")


def test_a_job_whose_processes_are_all_terminated_as_by_scancel_saves_and_is_not_requeued(run, programs, tmp_path):
    job = cluster.start(("bash", SCRIPT, tmp_path / "run", *run, "--ranks", "2"), programs)
    cluster.wait_until(lambda: begun(tmp_path / "run"), job)
    for process in (psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)):
        process.send_signal(signal.SIGTERM)
    told = cluster.finish(job)
    assert job.returncode == 75, told
    assert cluster.state(tmp_path / "run")["status"] == "stopped"
    assert calls(programs, "scontrol") == []


def test_a_job_that_fails_is_not_requeued(run, programs, tmp_path):
    job = cluster.start(("bash", SCRIPT, tmp_path / "run", *run, "--ranks", "2", "train.global_batch=5"), programs)
    told = cluster.finish(job)
    assert job.returncode == 2, told
    assert "5 clips cannot be cut into 2 equal parts" in told
    assert calls(programs, "scontrol") == []


def test_xkd_launch_that_is_terminated_saves_and_exits_with_75(run, undisturbed, programs, tmp_path):
    process = cluster.start((programs / "xkd", "launch", "--ranks", "2", *run, f"run_dir={tmp_path / 'run'}"), programs)
    cluster.wait_until(lambda: begun(tmp_path / "run"), process)
    process.send_signal(signal.SIGTERM)
    told = cluster.finish(process)
    assert process.returncode == 75, told
    state = cluster.state(tmp_path / "run")
    assert state["status"] == "stopped"
    assert cluster.losses(tmp_path / "run") == {step: undisturbed[step] for step in range(1, state["step"] + 1)}
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text().strip() == f"step-{state['step']:06d}"
