"""Per-tensor gradient clipping on gradients that are spread over ranks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

EPSILON = 1e-6


def clip_per_tensor(pieces: Sequence[Tensor | None], max_norms: Tensor, sum_over_ranks: Callable[[Tensor], Tensor]) -> Tensor:
    """Clips each tensor's gradient to its own largest norm, in place: g * min(1, max_norm / (||g|| + 1e-6)).

    `pieces[i]` is this rank's part of tensor i's averaged gradient, or None where the rank owns none of it; the parts of all ranks
    are disjoint. `max_norms` [P] may hold `inf` for tensors left alone. One all-reduce of P floats. Returns the norms before
    clipping [P].
    """
    own = [index for index, piece in enumerate(pieces) if piece is not None]
    owned_pieces = [pieces[index] for index in own]
    squares = torch.zeros_like(max_norms)
    if own:
        squares[own] = torch.stack(torch._foreach_norm(owned_pieces)).square()
    norms = sum_over_ranks(squares).sqrt()
    coefficients = (max_norms / (norms + EPSILON)).clamp(max=1)
    if own:
        torch._foreach_mul_(owned_pieces, list(coefficients[own]))
    return norms
