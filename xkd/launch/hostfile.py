"""A hostfile, and what else has to reach the machines that it names."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

DEFAULT = Path("/job/hostfile")  # DeepSpeed's own, which it reads unasked
ENTRY = re.compile(r"(\S+)\s+slots=([1-9]\d*)\s*(?:#.*)?")
# Variables that DeepSpeed 0.19.8 takes along by itself, by the start of their names; those of NCCL only from a machine with a GPU.
CARRIED, CARRIED_FROM_GPUS = ("MLFLOW", "PYTHON", "MV2", "UCX"), ("NCCL",)
# Variables that change how a run goes.
MATTER = ("XKD_", "OMP_", "NCCL_", "GLOO_", "TORCH_", "DEEPSPEED_", "AWS_", "WANDB_")
ENV_FILE = ".deepspeed_env"


def read(path: Path) -> dict[str, int]:
    """Ranks by host, from lines such as `gpu001 slots=8`. Raises ValueError where there is none, or another line."""
    if not path.is_file():
        raise ValueError(f"--hostfile: {path}: no such file")
    slots = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        entry = ENTRY.fullmatch(line.strip())
        if not entry:
            raise ValueError(f"{path} line {number}: {line.strip()!r} is not of the form `host slots=8`")
        if entry[1] in slots:
            raise ValueError(f"{path} line {number}: {entry[1]} is there twice: give it one line with all its slots")
        slots[entry[1]] = int(entry[2])
    if not slots:
        raise ValueError(f"{path}: names no host: write a line such as `gpu001 slots=8` for each")
    return slots


def carried_by_file(folders: tuple[Path, ...]) -> set[str]:
    """The names that .deepspeed_env, in any of the folders, sets on every host. Raises ValueError on a line without `=`."""
    names = set()
    for file in (folder / os.environ.get("DS_ENV_FILE", ENV_FILE) for folder in folders):
        for number, line in enumerate(file.read_text().splitlines() if file.is_file() else (), 1):
            name, equals, _ = line.partition("=")
            if not equals:
                raise ValueError(f"{file} line {number}: {line!r} is not of the form NAME=value, which DeepSpeed stumbles over")
            names.add(name.strip())
    return names


def left_behind(environ: Mapping[str, str], by_file: set[str], gpus: int) -> list[str]:
    """The variables that matter, are set here, and will not be set on the other hosts."""
    carried = (*CARRIED, *(CARRIED_FROM_GPUS if gpus else ()))
    return sorted(name for name in environ if name.startswith(MATTER) and not name.startswith(carried) and name not in by_file)


def for_remote_shell(argument: str) -> str:
    """An argument as it survives DeepSpeed, pdsh and the remote shell. Raises ValueError for one that does not."""
    if set(argument) & set("%$`\\!\n"):
        raise ValueError(f"{argument!r} does not survive pdsh and the hosts' shells: set it in the configuration file")
    return argument if " " in argument else shlex.quote(argument)  # DeepSpeed quotes what has a space, and nothing else
