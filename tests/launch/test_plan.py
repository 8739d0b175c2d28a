"""The command for where `xkd launch` stands."""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from deepspeed.launcher import runner

from xkd.jobs import JOBS
from xkd.launch.plan import MODULES, Machine, Order, plan

ORDER = Order("xkd.train", ("my.yaml", "optim.lr=1e-4"), Path("runs/my"))
CPUS = Machine({"PATH": os.environ["PATH"]}, gpus=0, cpus=16, free_port=4321)
GPUS = replace(CPUS, gpus=8)
STEP = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_NODEID": "1",
}


def on(machine, **variables):
    return replace(machine, environ={**machine.environ, **variables})


def parsed(launch):
    """The command's options, as DeepSpeed reads them."""
    assert launch.command[:3] == (sys.executable, "-m", "deepspeed.launcher.runner")
    return runner.parse_args(launch.command[3:])


@pytest.fixture
def pdsh(tmp_path):
    """A machine with pdsh on its path, and a hostfile."""
    program = tmp_path / "pdsh"
    program.touch(mode=0o755)
    (tmp_path / "hosts").write_text("gpu001 slots=8\ngpu002 slots=4\n")
    return on(CPUS, PATH=str(tmp_path)), replace(ORDER, hostfile=tmp_path / "hosts")


@pytest.mark.parametrize(("machine", "ranks", "started"), [(CPUS, None, 1), (CPUS, 2, 2), (GPUS, None, 8), (GPUS, 2, 2)], ids=str)
def test_one_machine_starts_a_rank_for_each_gpu_or_as_many_as_asked_for(machine, ranks, started):
    launch = plan(replace(ORDER, ranks=ranks), machine)
    options = parsed(launch)
    assert (options.num_gpus, options.master_port, options.module, options.no_local_rank) == (started, 4321, True, True)
    assert (options.user_script, options.user_args) == ("xkd.train", ["my.yaml", "optim.lr=1e-4"])
    assert launch.variables == {"OMP_NUM_THREADS": str(16 // started)}


@pytest.mark.parametrize(("ranks", "included"), [(None, "localhost:2,5,6"), (2, "localhost:2,5")])
def test_the_visible_gpus_are_those_that_are_used(ranks, included):
    options = parsed(plan(replace(ORDER, ranks=ranks), on(replace(GPUS, gpus=3), CUDA_VISIBLE_DEVICES="2,5,6")))
    assert (options.include, options.num_gpus) == (included, -1)


def test_a_number_of_threads_that_the_user_has_set_stays():
    assert plan(ORDER, on(CPUS, OMP_NUM_THREADS="3")).variables == {}


def test_a_node_of_a_job_starts_its_own_ranks_and_meets_the_others_at_the_first(tmp_path):
    launch = plan(replace(ORDER, run_dir=tmp_path), on(GPUS, **STEP, CUDA_VISIBLE_DEVICES="0,1,2,3,4,5,6,7"))
    options = parsed(launch)
    assert (options.no_ssh, options.node_rank, options.master_addr, options.master_port) == (True, 1, "gpu07", 24567)
    ((path, text),) = launch.files.items()
    assert (options.hostfile, path.parent) == (str(path), tmp_path)
    path.write_text(text)
    assert list(runner.fetch_hostfile(str(path)).values()) == [8, 8]


def test_where_ranks_meet_can_be_chosen():
    options = parsed(plan(replace(ORDER, master_addr="10.0.0.7", master_port=999), on(GPUS, **STEP)))
    assert (options.master_addr, options.master_port) == ("10.0.0.7", 999)
    assert parsed(plan(replace(ORDER, master_port=999), CPUS)).master_port == 999


def test_the_hosts_of_a_file_are_started_through_pdsh_even_if_there_is_one(pdsh):
    machine, order = pdsh
    options = parsed(plan(replace(order, arguments=("my.yaml", "data={train:a,test:b}"), master_port=999), machine))
    assert (options.hostfile, options.force_multi, options.launcher) == (str(order.hostfile), True, "pdsh")
    assert (options.master_addr, options.master_port, options.num_gpus) == ("", 999, -1)
    assert options.user_args == ["my.yaml", "'data={train:a,test:b}'"]  # else the hosts' shells would make two words of it
    assert parsed(plan(replace(order, ranks=4), machine)).num_gpus == 4


def test_variables_that_do_not_reach_the_hosts_are_named_in_a_warning(pdsh):
    machine, order = pdsh
    (warning,) = plan(order, on(machine, XKD_KERNELS="torch", OMP_NUM_THREADS="2")).warnings
    assert warning.startswith("OMP_NUM_THREADS, XKD_KERNELS: set here, but not on the other hosts")
    assert plan(order, machine).warnings == []


@pytest.mark.parametrize(
    ("changes", "machine", "says"),
    [
        ({"ranks": 9}, GPUS, "--ranks: 9 is more than this machine's 8 GPUs"),
        ({}, on(GPUS, CUDA_VISIBLE_DEVICES="GPU-1a,GPU-2b"), "cannot pass on GPU-1a,GPU-2b"),
        ({}, on(replace(GPUS, gpus=2), **STEP, CUDA_VISIBLE_DEVICES="2,3"), "is 2,3 here, .* would take the first 2 GPUs"),
        ({}, on(GPUS, SLURM_JOB_NUM_NODES="2"), "srun --ntasks-per-node=1 xkd launch"),
    ],
)
def test_what_cannot_be_started_from_here_is_refused(changes, machine, says):
    with pytest.raises(ValueError, match=says):
        plan(replace(ORDER, **changes), machine)


def test_a_hostfile_needs_pdsh_and_slots_for_the_ranks(pdsh, tmp_path):
    machine, order = pdsh
    with pytest.raises(ValueError, match=r"--ranks: 5 is more than the slots of gpu002 in .*hosts: choose fewer"):
        plan(replace(order, ranks=5), machine)
    with pytest.raises(ValueError, match="needs `pdsh`"):
        plan(order, on(machine, PATH=str(tmp_path / "empty")))


def test_what_is_shown_can_be_pasted_into_a_shell():
    launch = plan(replace(ORDER, arguments=("my.yaml", "a={b: c}")), on(GPUS, **STEP))
    *comments, line = str(launch).splitlines()
    assert comments == ["# runs/my/hostfile: node-0 slots=8", "# runs/my/hostfile: node-1 slots=8"]
    assert shlex.split(line) == ["OMP_NUM_THREADS=2", *launch.command]


def test_what_can_be_launched_is_a_job():
    assert MODULES.keys() <= JOBS.keys()
