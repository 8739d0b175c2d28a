"""Pre-training through the real deepspeed launcher, over gloo."""

import os
import subprocess
import sys

from xkd.train.distributed import free_port


def launch(config, *overrides, ranks=2):
    """Runs `deepspeed ... --module xkd.train CONFIG OVERRIDES` to its end and returns its exit code and what it wrote."""
    options = ("--num_accelerators", str(ranks), "--master_port", str(free_port()), "--log_level", "error")
    command = (sys.executable, "-m", "deepspeed.launcher.runner", *options, "--module", "xkd.train", config, *overrides)
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
