"""One score a sample from the logits of its clips and crops.

Shapes: S samples, V views (clips times crops) of each, K classes.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Averaging = Literal["softmax", "logits", "sigmoid"]

FORMS: dict[Averaging, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(-1),
    "logits": lambda logits: logits,
    "sigmoid": torch.sigmoid,
}


def average(logits: Tensor, num_samples: int, averaging: Averaging) -> Tensor:
    """Scores [S, K] from logits [S * V, K], the views of a sample in a row: the mean over them of what `averaging` names."""
    return FORMS[averaging](logits.float()).unflatten(0, (num_samples, -1)).mean(1)
