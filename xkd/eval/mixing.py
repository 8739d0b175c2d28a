"""Mixup and CutMix: a clip is blended with another, or has a rectangle of it, and its target is blended alike.

Shapes: B clips, K classes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from pydantic import Field
from timm.data.mixup import Mixup
from torch import Tensor
from torch.nn.functional import one_hot

from xkd.config import Settings


class MixingConfig(Settings):
    """Each step is mixed by one of the two, with one share and one rectangle for all of its clips."""

    mixup: float = Field(0.0, ge=0, description="parameter of the beta distribution of mixup's share; 0: no mixup")
    cutmix: float = Field(0.0, ge=0, description="the same of CutMix; 0: no CutMix")
    probability: float = Field(1.0, ge=0, le=1, description="probability that a step is mixed at all")
    cutmix_probability: float = Field(0.5, ge=0, le=1, description="probability that it is CutMix, where both are on")

    @property
    def is_on(self) -> bool:
        return bool(self.mixup or self.cutmix)


def targets_of(labels_B: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Probabilities [B, K]: 1 - smoothing on the label, the rest over all classes alike."""
    return one_hot(labels_B, num_classes) * (1 - smoothing) + smoothing / num_classes


def mix(
    clips: Tensor, labels_B: Tensor, num_classes: int, smoothing: float, config: MixingConfig, *, seed: int, step: int
) -> tuple[Tensor, Tensor]:
    """Mixed copies of the clips [B, ...] and their targets [B, K].

    Clips 2i and 2i + 1 are mixed with each other, so that the mixture is the same however the global batch is cut over ranks and
    micro-batches, as long as each has an even number. A rectangle is the same in all frames of a video.
    """
    assert len(clips) % 2 == 0, f"{len(clips)} clips cannot be mixed in pairs"
    # timm mixes the first of a batch with its last, and its CutMix takes pictures: frames become channels.
    pairs = torch.arange(len(clips), device=clips.device).view(-1, 2)
    order = torch.cat([pairs[:, 0], pairs[:, 1].flip(0)])
    pictures = clips[order].flatten(1, -3)
    mixer = Mixup(
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        prob=config.probability,
        switch_prob=config.cutmix_probability,
        label_smoothing=smoothing,
        num_classes=num_classes,
    )
    with numpy_seeded(seed, step):
        pictures, targets_BK = mixer(pictures, labels_B[order])
    back = order.argsort()
    return pictures[back].view_as(clips), targets_BK[back]


@contextmanager
def numpy_seeded(seed: int, step: int) -> Iterator[None]:
    """Numpy's global generator, from which timm draws, as a function of (seed, step); afterwards it is where it was."""
    before = np.random.get_state()
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32, step])
    try:
        yield
    finally:
        np.random.set_state(before)
