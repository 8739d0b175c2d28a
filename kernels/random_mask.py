"""Random masks that are a pure function of (seed, stream, step, position in the global batch).

Shapes: B samples, N tokens a sample, K kept, M = N - K masked.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
LOW_32_BITS = 0xFFFFFFFF


class Mask(NamedTuple):
    """One random mask a sample; ids are token positions in the order in which they were drawn."""

    keep: Tensor  # [B, K] int64, the visible tokens
    drop: Tensor  # [B, M] int64, the masked tokens
    restore: Tensor  # [B, N] int64, where each token stands in [keep; drop]
    mask: Tensor  # [B, N] bool, True where masked


def random_mask(
    seed: int | Tensor,
    stream: int,
    step: int | Tensor,
    row0: int,
    batch: int,
    num_tokens: int,
    num_keep: int,
    *,
    device: torch.device | str = "cpu",
    noise: Tensor | None = None,
) -> Mask:
    """Keep `num_keep` of `num_tokens` tokens of each of `batch` samples.

    Token i of the sample at position row0 + b of the global batch has the random bits

        philox4x32_10(counter = (i, row0 + b, step, stream), key = (low, high 32 bits of seed))[0]

    and the `num_keep` tokens with the smallest bits are kept. Only integer arithmetic is used, so every device and every world
    size draws the same mask. `stream` tells apart draws of one step (video, audio). The sort key is the upper 31 bits, then the
    token's index. `noise` [B, N] replaces the bits; then the order is that of a stable argsort.
    """
    assert 0 < num_keep < num_tokens, f"keeps {num_keep} of {num_tokens} tokens"
    if noise is None:
        order_BN = _random_keys(seed, stream, step, row0, batch, num_tokens, device).argsort(dim=1)
    else:
        assert noise.shape == (batch, num_tokens), f"noise {tuple(noise.shape)} is not {(batch, num_tokens)}"
        order_BN = noise.to(device).argsort(dim=1, stable=True)
    places_BN = torch.arange(num_tokens, device=order_BN.device).expand(batch, -1)
    restore_BN = torch.empty_like(order_BN).scatter_(1, order_BN, places_BN)
    return Mask(order_BN[:, :num_keep], order_BN[:, num_keep:], restore_BN, restore_BN >= num_keep)


def _random_keys(seed, stream, step, row0, batch, num_tokens, device) -> Tensor:
    index_N = torch.arange(num_tokens, device=device)
    rows_B1 = torch.arange(row0, row0 + batch, device=device)[:, None]
    words = (index_N, rows_B1, torch.as_tensor(step, device=device), torch.as_tensor(stream, device=device))
    bits_BN = philox(seed, torch.broadcast_tensors(*words))[0]
    return (bits_BN >> 1 << 32) | index_N  # 31 bits, so that the key stays positive in int64


def philox(seed: int | Tensor, counter: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four 32-bit words from a 64-bit seed and a counter of four 32-bit words, all held in int64 tensors."""
    c0, c1, c2, c3 = counter
    keys = [seed & LOW_32_BITS, seed >> 32 & LOW_32_BITS]
    for _ in range(PHILOX_ROUNDS):
        # The product wraps modulo 2^64, which leaves both halves right.
        products = (c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1])
        (high0, high2), (low0, low2) = ([p >> 32 & LOW_32_BITS for p in products], [p & LOW_32_BITS for p in products])
        c0, c1, c2, c3 = high2 ^ c1 ^ keys[0], low2, high0 ^ c3 ^ keys[1], low0
        keys = [key + step & LOW_32_BITS for key, step in zip(keys, PHILOX_KEY_STEPS, strict=True)]
    return c0, c1, c2, c3
