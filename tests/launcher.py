"""Training through the real deepspeed launcher, over gloo."""

import os
import subprocess
import sys

from xkd.train.distributed import free_port


def command(config, *overrides, ranks=2, module="xkd.train"):
    """`deepspeed ... --module MODULE CONFIG OVERRIDES`, on a port of its own."""
    options = ("--num_accelerators", str(ranks), "--master_port", str(free_port()), "--log_level", "error")
    return (sys.executable, "-m", "deepspeed.launcher.runner", *options, "--module", module, config, *overrides)


def launch(config, *overrides, **options):
    """Runs it to its end and returns its exit code and what it wrote."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command(config, *overrides, **options), capture_output=True, text=True, env=environment)
