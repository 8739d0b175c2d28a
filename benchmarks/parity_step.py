"""What follows the gradients of the whole network's step: clip, AdamW, the teachers; and the settings of the step."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from pydantic import Field, ValidationError
from torch import Tensor

from xkd.benchmarks.parity_rows import STORED, Golden, Row, relative, worst
from xkd.config import COMMAND_LINE, Settings, merge, parse_overrides, plain
from xkd.config_errors import sentences
from xkd.losses import AudioDistillConfig, DistillConfig, LossConfig
from xkd.model.xkd import XKD
from xkd.release.keys import network_tensors
from xkd.train import ema
from xkd.train.clipping import EPSILON, clip_per_tensor
from xkd.train.config import ClipConfig, EmaConfig, OptimConfig

FLOAT64 = 1e-9


class StepSettings(Settings):
    """What the golden files' README says of the whole network's step; shapes do not tell it."""

    loss: LossConfig = LossConfig(
        student_temperature="audio_for_both",
        video=DistillConfig(teacher_temperature=0.1, center_momentum=0.9),
        audio=AudioDistillConfig(teacher_temperature=0.07, center_momentum=0.8),
    )
    optim: OptimConfig = OptimConfig(lr=1e-3)
    clip: ClipConfig = ClipConfig()
    ema: EmaConfig = EmaConfig(video=0.997, audio=0.9)
    video_mask_ratio: float = Field(0.85, gt=0, lt=1, description="share of the video tokens that is masked")
    audio_mask_ratio: float = Field(0.80, gt=0, lt=1, description="share of the audio tokens that is masked")

    @classmethod
    def given(cls, overrides: Sequence[str]) -> "StepSettings":
        """With `section.key=value` overrides; raises ValueError where one does not fit."""
        try:
            return cls.model_validate(merge(cls().model_dump(), plain(parse_overrides(overrides))))
        except ValidationError as error:
            found = [f"{COMMAND_LINE}: {'.'.join(map(str, keys))}: {sentence}" for keys, sentence in sentences(error, cls)]
        raise ValueError("\n".join(found))


def step_rows(golden: Golden, xkd: XKD, settings: StepSettings) -> Iterator[Row]:
    """Clip, AdamW and EMA, in float64, of a network that has its gradients."""
    tensors = network_tensors(xkd)
    if "clip_norms" in golden:
        yield relative("clip_norms", _clip_norms(golden, tensors, settings.clip.norm), golden["clip_norms"], FLOAT64)
    step(xkd, settings)
    yield from _after_step(golden, tensors)


def _clip_norms(golden: Golden, tensors: Mapping[str, Tensor], largest: float) -> Tensor:
    """Gradient norms in the release's order; blocks that the students share come twice, the second time as clipped already."""
    norms, clipped = [], {}
    for role in ("vid_student.", "aud_student."):
        own = {id(tensors[key]): tensors[key].grad for key in golden.lines("state_dict_keys") if key.startswith(role)}
        for key, grad in own.items():
            if grad is not None:
                norm = clipped.get(key, grad.norm().item())
                norms.append(norm)
                clipped[key] = norm * min(1.0, largest / (norm + EPSILON))
    return torch.tensor(norms, dtype=torch.float64)


def step(xkd: XKD, settings: StepSettings) -> None:
    """The trainer's clip, AdamW and teachers' update on gradients that are there, without its engine."""
    from xkd.train.pretraining import param_groups  # loads DeepSpeed and DALI

    named = {name: parameter for name, parameter in xkd.named_parameters() if parameter.requires_grad}
    clipped = [settings.clip.scope == "all" or xkd.is_student_parameter(name) for name in named]
    max_norms = torch.tensor([settings.clip.norm if clip else math.inf for clip in clipped], dtype=torch.float64)
    clip_per_tensor([parameter.grad for parameter in named.values()], max_norms, lambda squares: squares)
    groups = param_groups(xkd, settings.optim.weight_decay)
    torch.optim.AdamW(groups, lr=settings.optim.lr, betas=settings.optim.betas).step()
    for modality, pairs in xkd.teacher_pairs().items():
        ema.update(pairs, getattr(settings.ema, modality))


def _after_step(golden: Golden, tensors: Mapping[str, Tensor]) -> Iterator[Row]:
    """Whole tensors, stored in float32 or float64; of large ones the squares' sum, and the sum relative to the largest possible."""
    values = golden.below("after_step/")
    rounding = {name: STORED.get(value.dtype, 0.0) for name, value in values.items()}
    yield from worst("after_step", (relative(name, tensors[name], values[name], FLOAT64 + rounding[name]) for name in values))
    squares = golden.below("after_step_sq/")
    found = {name: tensors[name].detach().double() for name in squares}
    yield from worst("after_step_sq", (relative(name, found[name].square().sum(), squares[name], FLOAT64) for name in squares))
    sums = golden.below("after_step_sum/")
    scales = {name: (squares[name] * found[name].numel()).sqrt() for name in sums}
    yield from worst(
        "after_step_sum",
        (relative(name, 1 + found[name].sum() / scales[name], 1 + sums[name] / scales[name], FLOAT64) for name in sums),
    )
