"""Training steps in plain torch on the whole batch, written out, and the tiny network and batches that they are compared on."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from tests.runs import pretrain_settings
from xkd.config import merge, parse_overrides, plain
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Batch
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.pretraining import schedule

BATCH, STEPS_PER_EPOCH = 8, 10
ALONE = Place(rank=0, local_rank=0, world_size=1)
TERMS = ("loss", "recon", "cmkd", "align")
TRANSFORMER = {"dim": 32, "depth": 2, "heads": 2}
SETTINGS = {
    "model": {"encoder": TRANSFORMER, "decoder": TRANSFORMER},
    "optim": {"lr": 2e-3, "base_batch": BATCH, "warmup_epochs": 0.5, "weight_decay": 0.3, "final_weight_decay": 0.05},
    "clip": {"norm": 0.02},  # low enough to bite
    "ema": {"video": 0.99, "audio": 0.98},
    "loss": {"video": {"teacher_temperature": {"start": 0.09, "end": 0.11, "epochs": 1}}},
    "train": {"global_batch": BATCH, "epochs": 2},
}


@dataclass(frozen=True)
class Track:
    """What a run leaves to compare: the numbers of each step, and the whole network in float32 at the end."""

    numbers: list[dict[str, float]]
    weights: dict[str, np.ndarray]

    def curve(self, name: str) -> np.ndarray:
        return np.array([step[name] for step in self.numbers])


def configuration(overrides: Sequence[str] = ()) -> PretrainConfig:
    """The tiny pre-training run with `section.key=value` over it."""
    settings = merge(pretrain_settings(Path("unused")), SETTINGS)
    return PretrainConfig.model_validate(merge(settings, plain(parse_overrides(overrides))))


def arrays(weights: Iterable[tuple[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in weights}


def batch_of(config: PretrainConfig, step: int, place: Place = ALONE, poisoned: Sequence[int] = ()) -> Batch:
    """A rank's share of a step's clips, which are noise; in the `poisoned` steps the last clip of all is not a number."""
    generator = torch.Generator().manual_seed(step)
    shapes, size = config.data.view_shapes, BATCH // place.world_size
    rows = slice(place.rank * size, (place.rank + 1) * size)
    views = {
        "video_global": torch.randn(BATCH, *shapes["video_shape"], generator=generator),
        "video_local": torch.randn(BATCH, 1, *shapes["local_video_shape"], generator=generator),
        "audio_global": torch.randn(BATCH, *shapes["audio_shape"], generator=generator),
        "audio_local": torch.randn(BATCH, 1, *shapes["local_audio_shape"], generator=generator),
    }
    if step in poisoned:
        views["video_global"][-1] = math.nan
    positions = torch.arange(BATCH)
    keys = [f"step {step} clip {position}" for position in positions.tolist()]
    none = torch.zeros(BATCH, dtype=torch.bool)
    labels = {"labels": positions, "targets": torch.eye(BATCH), "sample_ids": positions, "keys": keys}
    whole = Batch(**views, **labels, substituted=none, valid=~none)
    return replace(whole, **{field.name: getattr(whole, field.name)[rows] for field in fields(whole)})


def train_plainly(overrides: Sequence[str], steps: int, poisoned: Sequence[int] = ()) -> Track:
    """Forward, backward, per-tensor clip, AdamW, moving average, centres, on the whole batch at once, in float32."""
    config = configuration(overrides)
    model = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed)
    params = {name: param for name, param in model.named_parameters() if param.requires_grad}
    groups = [{"params": [param], "name": name} for name, param in params.items()]
    optimizer = torch.optim.AdamW(groups, betas=config.optim.betas, fused=False)
    numbers = []
    for step in range(steps):
        batch, values = batch_of(config, step, poisoned=poisoned), schedule(config, step, STEPS_PER_EPOCH)
        views = (batch.video_global, batch.video_local, batch.audio_global, batch.audio_local)
        temperatures = {name: value for name, value in values.items() if name.startswith("teacher_temperature")}
        output = model(*views, step=step, **temperatures)
        numbers.append({"loss": output.loss.item()} | {name: part.item() for name, part in output.parts.items()})
        if not math.isfinite(numbers[-1]["loss"]):
            continue
        optimizer.zero_grad()
        output.loss.backward()
        frozen = step < config.optim.freeze_last_layer_epochs * STEPS_PER_EPOCH
        for group in optimizer.param_groups:
            (param,), name = group["params"], group["name"]
            is_last = name.endswith("head.directions")
            group["lr"] = 0.0 if frozen and is_last else values["lr"]
            group["weight_decay"] = 0.0 if param.ndim < 2 or name.endswith("bias") else values["weight_decay"]
            if "decoder" not in name:
                param.grad *= min(1.0, config.clip.norm / (param.grad.norm().item() + 1e-6))
            if frozen and is_last:
                param.grad.zero_()
        optimizer.step()
        follow(model, values)
        for modality in ("video", "audio"):
            teacher, momentum = getattr(model, f"{modality}_teacher"), getattr(config.loss, modality).center_momentum
            mean = getattr(output, f"teacher_mean_{modality}")
            teacher.center = momentum * teacher.center + (1 - momentum) * mean
    return Track(numbers, arrays(model.state_dict().items()))


def follow(model: XKD, values: dict[str, float]) -> None:
    """teacher <- m teacher + (1 - m) student, each tensor once; blocks that the teachers share are video's."""
    moved = set()
    for modality in ("video", "audio"):
        student, teacher = getattr(model, f"{modality}_student"), getattr(model, f"{modality}_teacher")
        for name, theirs in teacher.named_parameters():
            if id(theirs) not in moved:
                momentum = values[f"ema_{modality}"]
                theirs.data = momentum * theirs.data + (1 - momentum) * student.get_parameter(name).data
            moved.add(id(theirs))
