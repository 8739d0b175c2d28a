"""The teachers' exponential moving average of the students."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def update(pairs: Iterable[tuple[Tensor, Tensor]], momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student for every (teacher, student) pair, in place and in fp32."""
    teachers, students = map(list, zip(*pairs, strict=True))
    torch._foreach_lerp_(teachers, students, 1 - momentum)
