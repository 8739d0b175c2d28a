"""What a training step of classifiers computes."""

from collections.abc import Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from xkd.eval.classification import Classifiers
from xkd.model.config import Modality
from xkd.model.flops import FORWARD_ONLY, TRAINED


def step_flops(model: Classifiers, shapes: Mapping[Modality, tuple[int, ...]]) -> int:
    """Operations of the matrix products in forward and backward of one sample with a clip of this shape a modality.

    `model` is on the meta device, where nothing is computed. A frozen encoder has no backward.
    """
    clips = {name: torch.empty(1, *shapes[name], device="meta") for name in model}
    total = 0
    for name, classifier in model.items():
        with FlopCounterMode(display=False) as counter:
            classifier(clips[name])
        total += counter.get_total_flops() * (FORWARD_ONLY if classifier.frozen else TRAINED)
    return total
