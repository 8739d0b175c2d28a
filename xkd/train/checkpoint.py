"""Checkpoints that are whole or absent: written under a temporary name, renamed when every rank is done."""

import json
import os
import shutil
from pathlib import Path

import torch.distributed as dist
from safetensors.torch import load_file, save_file

from xkd.train.run_directory import write_atomically
from xkd.train.trainer import Trainer

WEIGHTS = "weights.safetensors"


def save(run_dir: Path, step: int, trainer: Trainer, data: dict) -> Path:
    """Saves the run after `step` steps; every rank must call it. Returns the checkpoint's folder.

    The folder holds DeepSpeed's own state (to go on with), `weights.safetensors` (the whole network in fp32, to evaluate without
    DeepSpeed) and `meta.json`, with the loader's state `data`. `checkpoints/latest` names it once it is complete; older checkpoints
    are deleted then.
    """
    place, checkpoints = trainer.place, run_dir / "checkpoints"
    temporary, final = checkpoints / f"step-{step:06d}.tmp", checkpoints / f"step-{step:06d}"
    if place.rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    dist.barrier()
    trainer.engine.save(temporary)
    weights = {name: tensor.to("cpu", copy=True) for name, tensor in trainer.weights() if place.rank == 0}
    if place.rank == 0:
        save_file(weights, temporary / WEIGHTS)
        meta = {"step": step, "world_size": place.world_size, "data": data}
        write_atomically(temporary / "meta.json", json.dumps(meta, indent=2) + "\n")
    dist.barrier()
    if place.rank == 0:
        for file in temporary.rglob("*"):
            if file.is_file():
                _fsync(file)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        write_atomically(checkpoints / "latest", final.name + "\n")
        for old in checkpoints.glob("step-*"):
            if old != final:
                shutil.rmtree(old)
    dist.barrier()
    return final


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def latest(run_dir: Path) -> Path | None:
    """The newest complete checkpoint of a run, or None. Raises ValueError where `latest` names one that is not there."""
    pointer = run_dir / "checkpoints" / "latest"
    if not pointer.exists():
        return None
    folder = pointer.parent / pointer.read_text().strip()
    if not (folder / "meta.json").is_file():
        raise ValueError(f"{folder}: is not a complete checkpoint, though {pointer} names it: copy it back, or start a new run_dir")
    return folder


def restore(folder: Path, trainer: Trainer) -> tuple[int, dict]:
    """Brings the trainer back to a checkpoint. Returns the number of steps done and the loader's state.

    Raises ValueError where the run continues with another number of ranks, or the checkpoint holds no state of the loader.
    """
    meta = json.loads((folder / "meta.json").read_text())
    if meta["world_size"] != (ranks := trainer.place.world_size):
        raise ValueError(
            f"{folder}: written by {meta['world_size']} ranks, this run has {ranks}: start it with {meta['world_size']}"
        )
    if "data" not in meta:
        raise ValueError(f"{folder}: was written by an earlier version and does not say which clips were seen: start a new run_dir")
    trainer.engine.load(folder)
    trainer.set_teachers(load_file(folder / WEIGHTS))
    return meta["step"], meta["data"]
