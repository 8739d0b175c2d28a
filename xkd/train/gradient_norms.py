"""The norms of the gradients of a network's parts, from those of its tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor


class GradientNorms:
    """Sums up the norms of tensors of these names by the first two parts of the name: `video_student.encoder`, `.head`, `.decoder`.

    What two students share has the name, and so counts to the part, of the first of them (video).
    """

    def __init__(self, names: Sequence[str], device: torch.device):
        parts = [".".join(name.split(".")[:2]) for name in names]
        self._parts = list(dict.fromkeys(parts))
        self._index = torch.tensor([self._parts.index(part) for part in parts], device=device)

    def __call__(self, norms: Tensor) -> dict[str, float]:
        """`grad_norm`, of all, and `grad_norm/PART` of each part, from the norms of the tensors [P]."""
        squares = torch.zeros(len(self._parts), device=norms.device).index_add_(0, self._index, norms.square())
        total, *of_parts = torch.cat([squares.sum()[None], squares]).sqrt().tolist()
        return {"grad_norm": total, **{f"grad_norm/{part}": norm for part, norm in zip(self._parts, of_parts, strict=True)}}
