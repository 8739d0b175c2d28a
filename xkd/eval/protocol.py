"""What a protocol on frozen features is given, in each fold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from xkd.eval.tasks import Task
from xkd.features import Features
from xkd.model.config import Modality


@dataclass(frozen=True)
class Trial:
    """Features of the training split (None where the protocol learns nothing from it) and of the test split."""

    task: Task
    train: Features | None
    test: Features
    num_classes: int
    heads: Mapping[Modality, nn.Module]
    seed: int


def one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Targets [N, K] uint8 of one label a sample."""
    return np.eye(num_classes, dtype=np.uint8)[labels]
