"""Where in a SLURM job a process stands."""

import pytest

from xkd.launch.slurm import INTERACTIVE_STEP, Step, find_step, first_host


def step(*, nodes, tasks, node=0):
    return {
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NUM_NODES": "4",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_NODES": str(nodes),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NODELIST": "gpu[07-08,11]",
        "SLURM_NODEID": str(node),
    }


@pytest.mark.parametrize(
    ("nodelist", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[003-007,9],cpu1", "gpu003"),
        ("gpu[9,003]", "gpu9"),
        ("rack[1-2]gpu[03-04]", "rack1gpu03"),
        ("a-b[1-2].cluster,c", "a-b1.cluster"),
        ("10.0.0.[1-2]", "10.0.0.1"),
    ],
)
def test_the_first_host_of_a_list_is_found(nodelist, first):
    assert first_host(nodelist) == first


def test_a_task_of_several_nodes_knows_its_node_and_where_all_meet():
    assert find_step(step(nodes=3, tasks=3, node=2)) == Step(nodes=3, node=2, first_host="gpu07", port=24567)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_STEP_ID": INTERACTIVE_STEP},
        step(nodes=1, tasks=1),
    ],
    ids=["no job", "batch shell of one node", "interactive shell", "step on one of four nodes"],
)
def test_one_machine_trains_alone(environ):
    assert find_step(environ) is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "4"}, "one of the job's 4 nodes"),
        ({"SLURM_JOB_NUM_NODES": "4", "SLURM_STEP_ID": INTERACTIVE_STEP, "SLURM_STEP_NUM_NODES": "1"}, "one of the job's 4 nodes"),
        (step(nodes=2, tasks=16), "16 tasks on 2 nodes"),
        (step(nodes=1, tasks=8), "8 tasks on 1 nodes"),
    ],
)
def test_a_start_that_would_train_elsewhere_than_meant_is_refused_with_the_right_one(environ, says):
    with pytest.raises(ValueError, match=says) as refused:
        find_step(environ)
    assert "srun --ntasks-per-node=1 xkd launch" in str(refused.value)
