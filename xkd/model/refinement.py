"""Refinement: the teachers' tokens are weighed by the attention of both modalities before they are averaged.

Shapes: B samples, H heads, N tokens of this modality, M tokens of the other, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from xkd.kernels.precision import at_least_float32


def _by_mean(product_BHN: Tensor, attention_BHN: Tensor) -> Tensor:
    return product_BHN / attention_BHN.mean(-1, keepdim=True)


def _by_softmax(product_BHN: Tensor, attention_BHN: Tensor) -> Tensor:
    return product_BHN.softmax(-1)


def _all_alike(product_BHN: Tensor, attention_BHN: Tensor) -> Tensor:
    return torch.ones_like(product_BHN)


WEIGHTINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _by_mean, "softmax": _by_softmax, "none": _all_alike}


def token_weights(attention_BHN: Tensor, other_BHM: Tensor, mode: str) -> Tensor:
    """Weights [B, N] of this modality's tokens from its own attention a and the other modality's attention b:

        mean:     mean over heads of  mean_j(a_i b_j) / mean_i(a_i)
        softmax:  mean over heads of  softmax_i(mean_j(a_i b_j))
        none:     1

    mean_j(a_i b_j) = a_i mean_j(b_j), so the N x M product is never formed.
    """
    product_BHN = attention_BHN * other_BHM.mean(-1, keepdim=True)
    return WEIGHTINGS[mode](product_BHN, attention_BHN).mean(1)


def refined_feature(tokens_BND: Tensor, weights_BN: Tensor) -> Tensor:
    """The weighted mean token [B, D], scaled to the energy of the plain mean: mean_i(s w_i f_i), s = |mean f| / |mean w f|."""
    tokens_BND = at_least_float32(tokens_BND)
    plain_BD = tokens_BND.mean(1)
    weighted_BD = (weights_BN[..., None] * tokens_BND).mean(1)  # no matrix product: autocast would take it to bfloat16
    return weighted_BD * (plain_BD.norm(dim=-1, keepdim=True) / weighted_BD.norm(dim=-1, keepdim=True))
