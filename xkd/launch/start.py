"""`xkd launch` itself: reads the configuration, plans the command, shows it and runs it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from xkd.config import load
from xkd.jobs import schemas
from xkd.launch import hostfile
from xkd.launch.plan import DOCTOR, MODULES, Machine, Order, plan
from xkd.launch.supervise import supervise
from xkd.train.distributed import free_port
from xkd.train.run_directory import write_atomically


def start(
    config: str, overrides: Sequence[str], *, listed: Path | None, doctor: bool, dry_run: bool, **choices: int | str | None
) -> int:
    """Shows the command that starts a run, or the doctor in its place, and runs it unless `dry_run`. Returns the exit code.

    `listed` is a hostfile; `choices` are other fields of Order. Raises ValueError, before anything is started, for a configuration
    that is wrong and for what cannot be started from here.
    """
    read = load(config, overrides, {job: schema for job, schema in schemas().items() if job in MODULES})
    listed = listed or (hostfile.DEFAULT if hostfile.DEFAULT.is_file() else None)
    module = DOCTOR if doctor else MODULES[read.job]
    launch = plan(Order(module, (config, *overrides), read.run_dir, hostfile=listed, **choices), _this_machine())
    sys.stderr.write("".join(f"xkd launch: {warning}\n" for warning in launch.warnings))
    sys.stdout.write(f"{launch}\n")
    sys.stdout.flush()
    if dry_run:
        return 0
    for path, text in launch.files.items():
        _write(path, text)
    if doctor:  # has nothing to save
        os.execve(launch.command[0], launch.command, os.environ | launch.variables)
    return supervise(launch.command, launch.variables, read.run_dir)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise ValueError(f"run_dir: {path.parent} cannot be written ({error.strerror}): choose another folder") from None


def _this_machine() -> Machine:
    folders = (Path.home(), Path.cwd())
    return Machine(os.environ, torch.cuda.device_count(), len(os.sched_getaffinity(0)), free_port(), folders)
