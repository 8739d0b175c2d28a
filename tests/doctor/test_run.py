"""The whole doctor: alone, on several nodes, and through the launcher."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from xkd.cli import main
from xkd.doctor.checks import CHECKS
from xkd.doctor.run import diagnose
from xkd.train.distributed import Place, free_port

PATIENT = 250.0  # seconds, for a machine with other things to do


def on_processes(places, config, seconds=PATIENT):
    """What each process of a launch finds, started at these places of it."""
    port = free_port()
    with ProcessPoolExecutor(len(places), mp_context=get_context("forkserver")) as processes:
        futures = [processes.submit(_diagnose, place, port, config, seconds) for place in places]
        return [future.result() for future in futures]


def _diagnose(place, port, config, seconds):
    os.environ.update(RANK=str(place.rank), LOCAL_RANK=str(place.local_rank), WORLD_SIZE=str(place.world_size))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    return diagnose(config, seconds)


def test_alone_every_check_has_a_verdict_and_a_healthy_machine_is_healthy(config):
    (found,) = on_processes([Place(0, 0, 1)], config)
    assert found.healthy, found.text
    assert not found.hangs
    assert all(f"  {check.name}" in found.text for check in CHECKS if check.name != "shards")
    assert "1 node, 1 process: " in found.text


def test_without_a_configuration_what_needs_one_is_not_checked():
    (found,) = on_processes([Place(0, 0, 1)], None)
    assert found.healthy, found.text
    assert "not checked  shards: no configuration was given" in found.text


def test_the_first_of_two_nodes_tells_what_both_have_found(config):
    first, second = on_processes([Place(0, 0, 2), Place(1, 0, 2)], config)
    assert first.healthy, first.text
    assert (second.text, second.healthy) == ("", True)
    for line in (
        "ok           all-reduce: gloo, 2 ranks",
        "clocks: apart by",
        "shared run_dir: seen after",
        "same versions: 2 nodes",
    ):
        assert line in first.text
    assert first.text.count("read rate:") == 2  # of each node its own
    assert not config.run_dir.exists()


def test_a_second_process_of_a_node_does_not_repeat_what_the_node_has_found(config):
    first, _ = on_processes([Place(0, 0, 2), Place(1, 1, 2)], config)
    assert first.healthy, first.text
    assert first.text.count("read rate:") == 1
    assert "1 node, 2 processes" in first.text


def test_a_node_that_is_missing_is_a_failure_that_says_what_to_look_at(config):
    (found,) = on_processes([Place(0, 0, 2)], config, seconds=2.0)
    assert not found.healthy
    assert "failed       meeting: rank 0 of 2:" in found.text
    assert "MASTER_ADDR" in found.text


def test_the_exit_code_tells_whether_all_is_well(pretrain_yaml, tmp_path, capsys):
    assert main(["doctor", str(pretrain_yaml), f"run_dir={tmp_path}", f"data.train={tmp_path}"]) == 1
    shown = capsys.readouterr().out
    assert "failed       data.train" in shown
    assert "1 failed" in shown.splitlines()[-1]


def test_a_wrong_configuration_is_wrong_usage(capsys):
    assert main(["doctor", "pretrain/none.yaml"]) == 2
    assert "no such configuration file" in capsys.readouterr().err


@pytest.mark.long
def test_the_deepspeed_launcher_starts_it_on_every_rank(pretrain_yaml, tmp_path):
    options = ("--num_accelerators", "2", "--master_port", str(free_port()), "--log_level", "error")
    command = (sys.executable, "-m", "deepspeed.launcher.runner", *options, "--module", "xkd.doctor", str(pretrain_yaml))
    done = subprocess.run(
        [*command, f"run_dir={tmp_path}"], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all-reduce: gloo, 2 ranks on 1 node" in done.stdout
    assert "1 node, 2 processes" in done.stdout
