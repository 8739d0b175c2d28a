"""Does one step of a run again, from (seed, epoch, step) and the checkpoint before it: clips, views, masks, losses of each clip."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from xkd.config import load
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Batch, Loader
from xkd.train import checkpoint, run_directory, snapshot
from xkd.train.config import PretrainConfig
from xkd.train.distributed import claim_device, find_place
from xkd.train.engine import join_process_group
from xkd.train.pretraining import MODALITIES, PretrainJob
from xkd.train.replayed import Replay
from xkd.train.trainer import Trainer

OF_A_CLIP = ("recon_video", "recon_audio", "v2a", "a2v")  # terms that are means over clips; alignment compares clips


def replay(run_dir: Path, step: int, out: Path, overrides: Sequence[str] = (), most_steps: int = 1000) -> Replay:
    """Does the step that ends after `step` steps again, in this one process, with the run's configuration and `overrides`.

    It starts at the newest whole checkpoint before it, or at the beginning, and does the steps between again, `most_steps` at most.
    The micro-batches are those of the run's ranks, unless alignment compares the whole batch. Of a run of one process its loss is
    that of the run to the bit, otherwise within ALLOWED. The run directory is only read: what a step leaves goes to `out`.
    Raises ValueError for a step that the run does not have or that is too far from a checkpoint.
    """
    place = find_place()
    if place.world_size > 1:
        raise ValueError(
            f"xkd replay: takes the whole global batch in one process, not {place.world_size}: start it without a launcher"
        )
    config = load(run_dir / "config.yaml", overrides, {"pretrain": PretrainConfig})
    logged = logged_loss(run_dir, step)
    found = checkpoint.before(run_dir, step)
    begun = found.step if found else 0
    _check(run_dir, step, begun, most_steps)
    ranks = found.meta["world_size"] if found else 1
    config = in_one_process(config.model_copy(update={"run_dir": out}), ranks)
    device = claim_device(place)
    join_process_group()
    try:
        job = PretrainJob(config, place)
        with closing(job.open_loader(device)) as loader:
            total = math.ceil(config.train.epochs * len(loader))
            if step > total:
                raise ValueError(f"{run_dir}: has {total} steps in all, and no step {step}: choose one of 1 to {total}")
            trainer = Trainer(job.open_task(len(loader)))
            if found:
                snapshot.restore(trainer, found)
            state = found.meta["loader"] if found else loader.state_dict()
            damages = [damage.model_dump() for damage in run_directory.read_quarantine(run_dir)]
            loader.load_state_dict(state | {"quarantine": damages})
            batch = _batch_of(trainer, loader, begun, step - 1)
            losses, hidden = losses_of_clips(trainer, batch, step - 1), hidden_places(trainer.model, batch, step - 1)
            numbers = trainer.step(batch, step - 1)
            epoch = (step - 1) // len(loader)
            return Replay(config, step, epoch, begun, ranks, batch, hidden, losses, numbers, logged)
    finally:
        dist.destroy_process_group()


def logged_loss(run_dir: Path, step: int) -> float | None:
    """The loss in metrics.jsonl after so many steps, NaN where it was not finite; None where there is no row."""
    path = run_dir / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        row = json.loads(line)
        if row["step"] == step and "loss" in row:
            return math.nan if row["loss"] is None else row["loss"]
    return None


def in_one_process(config: PretrainConfig, ranks: int) -> PretrainConfig:
    """The configuration whose micro-batches are, in one process, those of all ranks; the whole batch where alignment wants it."""
    if config.loss.weights.align and config.loss.align_group == "global":
        return config
    count = config.train.accumulation * ranks
    return config.model_copy(update={"train": config.train.model_copy(update={"accumulation": count})})


@torch.no_grad()
def losses_of_clips(trainer: Trainer, batch: Batch, step: int) -> dict[str, list[float]]:
    """The loss but for alignment, and the terms OF_A_CLIP, of each clip with the masks that it has in the step."""
    task, rows = trainer.task, []
    weights = task.config.loss.weights
    if not (weights.recon or weights.cmkd):
        return {}
    values = task.schedule(step)
    with without_alignment(task.model):
        for row in range(len(batch.keys)):
            outcome = task.forward(trainer.engine.forward, batch, slice(row, row + 1), step, values)
            rows.append({"loss": outcome.loss, **outcome.scalars})
    return {name: [float(row[name]) for row in rows] for name in ("loss", *OF_A_CLIP) if name in rows[0]}


@contextmanager
def without_alignment(model: XKD) -> Iterator[None]:
    """The model takes single clips in here, which alignment could not compare with others."""
    whole = model.loss_config
    model.loss_config = whole.model_copy(update={"weights": whole.weights.model_copy(update={"align": 0.0})})
    try:
        yield
    finally:
        model.loss_config = whole


def hidden_places(model: XKD, batch: Batch, step: int) -> dict[str, Tensor]:
    """Where the masks of the step hide the global views, by modality."""
    hidden = {}
    for modality in MODALITIES:
        clip = getattr(batch, f"{modality}_global")
        tokenizer = getattr(model, f"{modality}_student").encoder.tokenizer
        mask_BN = model.draw_mask(modality, clip, step, first_row=0).mask
        patch_size = clip[0].numel() // mask_BN.shape[1]
        hidden[modality] = tokenizer.unpatchify(mask_BN[..., None].expand(-1, -1, patch_size), like=clip)
    return hidden


def _check(run_dir: Path, step: int, begun: int, most_steps: int) -> None:
    if step < 1:
        raise ValueError(f"step: {step} is none: the first step of a run is 1, as in metrics.jsonl")
    if step - 1 - begun > most_steps:
        raise ValueError(
            f"{run_dir}: its newest whole checkpoint before step {step} is that of step {begun}, {step - 1 - begun} steps would be"
            " done again: allow that with --most-steps, or have runs keep more (train.keep_checkpoints, milestone_every_epochs)"
        )


def _batch_of(trainer: Trainer, loader: Loader, begun: int, index: int) -> Batch:
    """The batch of step `index`, counted from 0, once the steps from `begun` on are done again."""
    steps = tqdm(range(begun, index), desc="steps before it", unit="step", disable=None)
    batches = _batches(loader)
    for number in steps:
        trainer.step(next(batches), number)
    return next(batches)


def _batches(loader: Loader) -> Iterator[Batch]:
    while True:
        yield from loader
