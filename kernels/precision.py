"""The precision in which losses and normalisations accumulate."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is float64 already (the tests' oracle)."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
