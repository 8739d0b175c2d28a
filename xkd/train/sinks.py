"""The files and services that a run's metrics are written to."""

import json
import math
import secrets
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TextIO

import numpy as np

from xkd.pipelines.store.opening import is_remote
from xkd.train.config import TrainingConfig
from xkd.train.run_directory import write_atomically

SECTIONS = {  # where TensorBoard and Weights & Biases show a metric, by how its name starts; the first that fits
    "loss": ("loss", "recon", "v2a", "a2v", "cmkd", "align"),
    "collapse": ("feature_std", "teacher_entropy", "center_norm", "collapse"),
    "grad_norm": ("grad_norm",),
    "schedule": ("lr", "weight_decay", "ema", "teacher_temperature"),
    "speed": ("clips_per_second", "mfu"),
    "data": ("data", "substituted"),
    "memory": ("host_memory", "gpu_memory"),
}


def tag(name: str) -> str:
    """The metric's name below the section that shows it: `loss/recon_video`. Names that have one, `grad_norm/...`, stay."""
    if "/" in name:
        return name
    section = next((section for section, starts in SECTIONS.items() if name.startswith(starts)), "run")
    return f"{section}/{name}"


class JsonLines:
    """run_dir/metrics.jsonl, a row a line; of a resumed run without the rows of steps that are done again."""

    def __init__(self, config: TrainingConfig, start_step: int):
        self._file = _reopen(config.run_dir / "metrics.jsonl", start_step)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """A file of numbers has no place for pictures."""

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """run_dir/tensorboard."""

    def __init__(self, config: TrainingConfig, start_step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(config.run_dir / "tensorboard"), purge_step=start_step + 1 if start_step else None)

    def write(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(tag(name), value, step)

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, pixels in pictures.items():
            self._writer.add_image(f"pictures/{name}", pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases; it goes on when the run directory does, whose file wandb_id names it.

    Rows that a resumed run writes again are dropped there: they are the same. Raises ValueError where the run cannot be opened.
    """

    def __init__(self, config: TrainingConfig):
        import wandb

        settings = config.log.wandb
        name = settings.name or config.run_dir.resolve().name
        places = {"entity": settings.entity, "project": settings.project, "name": name, "mode": settings.mode}
        again = {"id": _wandb_id(config.run_dir), "resume": "allow", "dir": config.run_dir}
        try:  # console: what is printed stays here, and the bar is left alone
            self._run = wandb.init(**places, **again, config=_public(config), settings=wandb.Settings(console="off"))
        except wandb.errors.Error as error:
            raise ValueError(
                f"log.wandb: the run could not be opened: {error}: run `wandb login`, or set log.wandb.mode to offline"
            ) from None

    def write(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log({tag(name): value for name, value in row.items()}, step=step)

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        import wandb

        self._run.log({f"pictures/{name}": wandb.Image(pixels) for name, pixels in pictures.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


def check(config: TrainingConfig) -> None:
    """Raises ValueError where metrics are to go to Weights & Biases and its package is not installed."""
    if config.log.wandb and find_spec("wandb") is None:
        raise ValueError("log.wandb: is set, but the package wandb is not installed: `pip install wandb`, or remove log.wandb")


def _reopen(path: Path, start_step: int) -> TextIO:
    rows = path.read_text().splitlines(keepends=True) if path.exists() and start_step else []
    write_atomically(path, "".join(row for row in rows if json.loads(row)["step"] <= start_step))
    return path.open("a", buffering=1)


def _wandb_id(run_dir: Path) -> str:
    """The name of this run directory's run, made up the first time."""
    path = run_dir / "wandb_id"
    if not path.exists():
        write_atomically(path, f"{secrets.token_hex(4)}\n")
    return path.read_text().strip()


def _public(config: TrainingConfig) -> dict:
    """The configuration without locations that may hold a password or a token."""
    tree = config.model_dump(mode="json")
    tree["data"] = {name: value for name, value in tree["data"].items() if not (isinstance(value, str) and is_remote(value))}
    return tree
