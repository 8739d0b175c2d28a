"""Where in a SLURM job this process stands, told by the variables that srun sets: no `scontrol`, which containers lack."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

INTERACTIVE_STEP = "4294967290"  # the shell that salloc opens on the first node
LOWEST_PORT, PORTS = 20000, 10000  # below the ports that systems hand out by themselves
START = "srun --ntasks-per-node=1 xkd launch ..."


@dataclass(frozen=True)
class Step:
    """One task a node: this is the task of node `node`, of `nodes`."""

    nodes: int
    node: int
    first_host: str
    port: int


def find_step(environ: Mapping[str, str]) -> Step | None:
    """The job step of several nodes that this process is a task of; None on a machine that trains alone.

    Raises ValueError where a node has several tasks, or a job of several nodes would train on one of them only.
    """
    in_step = environ.get("SLURM_STEP_ID", INTERACTIVE_STEP) != INTERACTIVE_STEP
    if not in_step:
        nodes = int(environ.get("SLURM_JOB_NUM_NODES", 1))
        if nodes > 1:
            raise ValueError(f"this shell is on one of the job's {nodes} nodes, and would train on this one only: use `{START}`")
        return None
    nodes, tasks = int(environ["SLURM_STEP_NUM_NODES"]), int(environ["SLURM_STEP_NUM_TASKS"])
    if tasks != nodes:
        raise ValueError(
            f"srun has started {tasks} tasks on {nodes} nodes, and each would start all ranks of its node: use `{START}`"
        )
    if nodes == 1:
        return None
    port = LOWEST_PORT + int(environ["SLURM_JOB_ID"]) % PORTS
    return Step(nodes, int(environ["SLURM_NODEID"]), first_host(environ["SLURM_STEP_NODELIST"]), port)


def first_host(nodelist: str) -> str:
    """The first of a list of hosts as SLURM writes it: gpu003 of `gpu[003-007,9],cpu1`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodelist).group()
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first)
