"""The losses of XKD and how they add up.

Shapes: U, V views; B samples; D outputs of the projector; P ranks; G groups.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from xkd import schedules
from xkd.config import Settings
from xkd.kernels.mmd import mmd


class LossWeights(Settings):
    """Weights of the terms; a term of weight 0 is not computed."""

    recon: float = Field(5.0, ge=0, description="masked reconstruction")
    cmkd: float = Field(1.0, ge=0, description="cross-modal distillation")
    align: float = Field(1.0, ge=0, description="domain alignment")

    @model_validator(mode="after")
    def _check(self):
        if not any((self.recon, self.cmkd, self.align)):
            raise ValueError("recon, cmkd and align are all 0: nothing would be trained; set one above 0")
        return self


TERMS = tuple(LossWeights.model_fields)


class Ramp(Settings):
    """A value that goes linearly from `start` to `end`."""

    start: float = Field(gt=0, description="value at epoch 0")
    end: float = Field(gt=0, description="value from `epochs` on")
    epochs: float = Field(gt=0, description="epochs from `start` to `end`")


class DistillConfig(Settings):
    """Distillation settings of one modality, as a teacher of the other and as its student."""

    student_temperature: float = Field(0.1, gt=0, description="divides the student's outputs")
    teacher_temperature: PositiveFloat | Ramp = Field(0.1, description="divides the teacher's centred outputs; a number or a ramp")
    center_momentum: float = Field(0.9, ge=0, le=1, description="share of the teacher's centre that an update keeps")

    def teacher_temperature_at(self, epoch: float) -> float:
        """The teacher's temperature after `epoch` epochs."""
        value = self.teacher_temperature
        return schedules.linear(epoch, value.epochs, value.start, value.end) if isinstance(value, Ramp) else value


class AudioDistillConfig(DistillConfig):
    """Audio's: the method's audio teacher is sharper."""

    teacher_temperature: PositiveFloat | Ramp = Field(0.07, description="divides the teacher's centred outputs; a number or a ramp")


class LossConfig(Settings):
    """The terms of the loss; the defaults are the method's."""

    weights: LossWeights = LossWeights()
    norm_pix_loss: bool = Field(True, description="reconstruct each token standardised by its own mean and deviation")
    align_group: Literal["global"] | PositiveInt = Field(
        "global", description="samples that an MMD compares: the global batch, or this many in a row"
    )
    student_temperature: Literal["per_modality", "audio_for_both"] = Field(
        "per_modality", description="whose student_temperature divides a student's outputs: its own, or audio's (as released)"
    )
    video: DistillConfig = DistillConfig()
    audio: AudioDistillConfig = AudioDistillConfig()

    def student_temperature_of(self, modality: str) -> float:
        """What divides the outputs of this modality's student."""
        return (self.audio if self.student_temperature == "audio_for_both" else getattr(self, modality)).student_temperature

    def check_accumulation(self, accumulation: int) -> None:
        """Raises ValueError where `accumulation` micro-batches a step would split an alignment group, whatever their size."""
        if self.weights.align and self.align_group == "global" and accumulation > 1:
            raise ValueError(
                f"loss.align_group: 'global' compares the whole batch at once, but a step has {accumulation} micro-batches: "
                "set train.accumulation to 1, or align_group to a number that divides the micro-batch"
            )

    def check_batch(self, samples: int, accumulation: int = 1) -> None:
        """Raises ValueError where micro-batches of `samples` a rank, `accumulation` a step, would split an alignment group."""
        self.check_accumulation(accumulation)
        if self.weights.align and self.align_group != "global" and samples % self.align_group:
            raise ValueError(
                f"loss.align_group: {self.align_group} does not divide the {samples} samples of a rank's micro-batch: "
                "set align_group to a divisor of it or to global, or change train.global_batch, accumulation or the number of ranks"
            )


@dataclass(frozen=True)
class Ranks:
    """This rank among those of a global batch, and what it asks of them; neither function passes a gradient on."""

    rank: int
    count: int
    gather: Callable[[Tensor], Tensor]  # [N, ...] -> [P, N, ...], in rank order
    sum: Callable[[Tensor], Tensor]  # over the ranks


ALONE = Ranks(rank=0, count=1, gather=lambda rows: rows[None], sum=lambda values: values)


def alignment(features: Mapping[str, Tensor], group: str | int, ranks: Ranks = ALONE) -> tuple[Tensor, Tensor]:
    """MMD between the modalities: of the students' outputs, and of the teachers'.

    `features` holds student_video, student_audio, teacher_video, teacher_audio, each [views, B, D]; all views of the same samples
    are compared together. With `group` = N: the average over groups of N consecutive samples, each within this rank. With
    "global": over the samples of all ranks, of which each computes the terms of its own, and every rank returns the same values.

    A rank's loss sees the other ranks' rows as constants, and data parallelism averages the ranks' gradients. So its own rows
    receive their gradient times the number of ranks: the average is then the gradient of the one global loss.
    """
    pairs = ((features[f"{role}_video"], features[f"{role}_audio"]) for role in ("student", "teacher"))
    if group != "global":
        return tuple(grouped_mmd(video, audio, group) for video, audio in pairs)
    shares = torch.stack([_share_of_mmd(video, audio, ranks) for video, audio in pairs])
    values = ranks.sum(shares.detach().clone())
    return tuple(values + ranks.count * (shares - shares.detach()))


def grouped_mmd(video_UBD: Tensor, audio_VBD: Tensor, group: int) -> Tensor:
    """MMD averaged over groups of `group` consecutive samples with all their views."""
    views_GVND = [views.unflatten(1, (-1, group)).transpose(0, 1) for views in (video_UBD, audio_VBD)]
    return mmd(torch.cat(views_GVND, dim=1).flatten(1, 2), len(video_UBD) * group).mean()


def _share_of_mmd(video_UBD: Tensor, audio_VBD: Tensor, ranks: Ranks) -> Tensor:
    """This rank's share of the MMD of all samples."""
    own_SD = torch.cat([video_UBD, audio_VBD]).flatten(0, 1)
    return mmd(own_SD, video_UBD.shape[:2].numel(), gathered_PSD=ranks.gather(own_SD.detach()), place=ranks.rank)


def total(parts: Mapping[str, Tensor], weights: LossWeights, cross_modal: bool = True) -> Tensor:
    """The weighted mean of the terms: sum of w * term over sum of w, over the terms whose weight is not 0.

    Without `cross_modal` reconstruction alone counts: the others are parts of the sum with a weight of 0, so that the same tensors
    have gradients in every step.
    """
    used = {name: getattr(weights, name) * (cross_modal or name == "recon") for name in TERMS if getattr(weights, name)}
    return sum(weight * parts[name] for name, weight in used.items()) / sum(used.values())
