"""How many CPU cores this process has for itself."""

import os

# Processes that the launcher has started on this machine: torchrun's name for it, and DeepSpeed's.
LOCAL_RANKS = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")


def own_cores() -> int:
    """Its part of the cores that it is bound to (by SLURM, a container, taskset), which the ranks of a launcher share."""
    ranks = next((int(os.environ[name]) for name in LOCAL_RANKS if name in os.environ), 1)
    return max(1, len(os.sched_getaffinity(0)) // ranks)
