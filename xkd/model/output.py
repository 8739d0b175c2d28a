"""What one step of XKD gives back.

Shapes: K outputs of a head.
"""

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor


class LossParts(TypedDict, total=False):
    """The terms of the loss and their halves; a term of weight 0 is absent with its halves."""

    recon_video: Tensor
    recon_audio: Tensor
    recon: Tensor
    v2a: Tensor
    a2v: Tensor
    cmkd: Tensor
    align_student: Tensor
    align_teacher: Tensor
    align: Tensor


class Statistics(TypedDict, total=False):
    """What tells a collapse; those of the teachers are absent where no term needs the teachers."""

    feature_std_video: Tensor  # deviation over samples of the student's feature, averaged over dimensions
    feature_std_audio: Tensor
    teacher_entropy_video: Tensor  # nats, of the sharpened output; a flat one has log K
    teacher_entropy_audio: Tensor
    center_norm_video: Tensor
    center_norm_audio: Tensor


@dataclass(frozen=True)
class XKDOutput:
    """The loss of this rank's samples and what is worth watching; all but `loss` is detached."""

    loss: Tensor  # weighted mean of recon, cmkd, align
    parts: LossParts
    stats: Statistics
    # [K], mean outputs over this rank's samples, for update_centers; without distillation the centres, which an update then keeps.
    teacher_mean_video: Tensor
    teacher_mean_audio: Tensor
