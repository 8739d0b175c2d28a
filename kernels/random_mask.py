"""Random masks that are a pure function of (seed, stream, step, position in the global batch).

Shapes: B samples, N tokens a sample, K kept, M = N - K masked.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd.kernels.choice import check_devices, register, use_triton

# Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10
LOW_32_BITS = 0xFFFFFFFF
MAX_TOKENS = 4096  # of a sample in Triton: one program sorts them in registers


class Mask(NamedTuple):
    """One random mask a sample; ids are token positions in the order in which they were drawn."""

    keep: Tensor  # [B, K] int64, the visible tokens
    drop: Tensor  # [B, M] int64, the masked tokens
    restore: Tensor  # [B, N] int64, where each token stands in [keep; drop]
    mask: Tensor  # [B, N] bool, True where masked


@triton.jit(do_not_specialize=["stream", "row0"])
def _draw(
    seed_ptr,  # [] int64
    step_ptr,  # [] int64
    noise_ptr,  # [B, N]; None: random bits
    keep_ptr,  # [B, K] int64
    drop_ptr,  # [B, N - K] int64
    restore_ptr,  # [B, N] int64
    mask_ptr,  # [B, N] bool
    stream,
    row0,
    num_tokens,
    num_keep,
    BLOCK: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)
    inside = places < num_tokens
    if noise_ptr is None:
        row, step = (row0 + sample).to(tl.uint32), tl.load(step_ptr).to(tl.uint32)
        none = tl.zeros((BLOCK,), tl.uint32)
        words = (places.to(tl.uint32), none + row, none + step, none + stream.to(tl.uint32))
        rank = tl.philox(tl.load(seed_ptr), *words)[0] >> 1
    else:
        rank = _rank(tl.load(noise_ptr + sample * num_tokens + places, mask=inside, other=0.0).to(tl.float32))
    last = tl.full((BLOCK,), 0x7FFFFFFFFFFFFFFF, tl.int64)
    order = tl.sort(tl.where(inside, rank.to(tl.int64) << 32 | places, last)) & 0xFFFFFFFF
    kept = places < num_keep
    tl.store(keep_ptr + sample * num_keep + places, order, mask=kept)
    tl.store(drop_ptr + sample * (num_tokens - num_keep) + places - num_keep, order, mask=inside & ~kept)
    tl.store(restore_ptr + sample * num_tokens + order, places.to(tl.int64), mask=inside)
    tl.store(mask_ptr + sample * num_tokens + order, ~kept, mask=inside)


@triton.jit
def _rank(x):
    """Integers in the order in which torch sorts floats: -0.0 equals 0.0, NaN comes last."""
    bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
    return tl.where(x != x, 0x7FFFFFFF, tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits))


def launch_forward(
    seed: Tensor, step: Tensor, noise: Tensor | None, stream: int, row0: int, batch: int, num_tokens: int, num_keep: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`random_mask` in Triton. Raises ValueError where a sample has more tokens than a program sorts."""
    if num_tokens > MAX_TOKENS:
        raise ValueError(f"random_mask: Triton takes at most {MAX_TOKENS:,} tokens, not {num_tokens:,}: set XKD_KERNELS=torch")
    out = _empty_mask(seed, step, noise, stream, row0, batch, num_tokens, num_keep)
    block = triton.next_power_of_2(num_tokens)
    if batch:
        _draw[(batch,)](
            seed,
            step,
            None if noise is None else noise.contiguous(),
            *out,
            stream,
            row0,
            num_tokens,
            num_keep,
            BLOCK=block,
            num_warps=max(1, min(16, block // 128)),
        )
    return out


def _empty_mask(
    seed: Tensor, step: Tensor, noise: Tensor | None, stream: int, row0: int, batch: int, num_tokens: int, num_keep: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def empty(length: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return seed.new_empty(batch, length, dtype=dtype)

    return empty(num_keep), empty(num_tokens - num_keep), empty(num_tokens), empty(num_tokens, torch.bool)


_op = register("random_mask", launch_forward)
_op.register_fake(_empty_mask)


def random_mask(
    seed: int | Tensor,
    stream: int,
    step: int | Tensor,
    row0: int,
    batch: int,
    num_tokens: int,
    num_keep: int,
    *,
    device: torch.device | str | None = None,
    noise: Tensor | None = None,
) -> Mask:
    """Keep `num_keep` of `num_tokens` tokens of each of `batch` samples.

    Token i of the sample at position row0 + b of the global batch has the random bits

        philox4x32_10(counter = (i, row0 + b, step, stream), key = (low, high 32 bits of seed))[0]

    and the `num_keep` tokens with the smallest bits are kept. Only integer arithmetic is used, so every device and every world
    size draws the same mask. `stream` tells apart draws of one step (video, audio). The sort key is the upper 31 bits, then the
    token's index. `noise` [B, N], of floats, replaces the bits; then the order is that of a stable argsort.

    `seed` and `step` may be int64 tensors without dimensions: a captured CUDA graph reads what they then hold. `device` is by
    default that of the tensors given, or the CPU. Raises ValueError where sizes, dtypes or devices do not fit.
    """
    given = {"seed": seed, "step": step, "noise": noise}
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    if device is None:
        device = next((tensor.device for tensor in tensors.values()), "cpu")
    seed, step = (_scalar(name, given[name], device) for name in ("seed", "step"))
    check_devices("random_mask", masks=torch.empty(0, device=device), **tensors)
    _check(batch, num_tokens, num_keep, noise)
    function = _op if use_triton("random_mask", seed if noise is None else noise) else reference
    return Mask(*function(seed, step, noise, stream, row0, batch, num_tokens, num_keep))


def reference(
    seed: Tensor, step: Tensor, noise: Tensor | None, stream: int, row0: int, batch: int, num_tokens: int, num_keep: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`random_mask` in torch."""
    if noise is None:
        order_BN = _random_keys(seed, step, stream, row0, batch, num_tokens).argsort(dim=1)
    else:
        order_BN = noise.argsort(dim=1, stable=True)
    places_BN = torch.arange(num_tokens, device=seed.device).expand(batch, -1)
    restore_BN = torch.empty_like(order_BN).scatter_(1, order_BN, places_BN)
    return order_BN[:, :num_keep], order_BN[:, num_keep:], restore_BN, restore_BN >= num_keep


def _random_keys(seed: Tensor, step: Tensor, stream: int, row0: int, batch: int, num_tokens: int) -> Tensor:
    index_N = torch.arange(num_tokens, device=seed.device)
    rows_B1 = torch.arange(row0, row0 + batch, device=seed.device)[:, None]
    words = torch.broadcast_tensors(index_N, rows_B1, step, torch.full_like(step, stream))
    return (philox(seed, words)[0] >> 1 << 32) | index_N  # 31 bits, so that the key stays positive in int64


def philox(seed: int | Tensor, counter: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four 32-bit words from a 64-bit seed and a counter of four words modulo 2^32, all held in int64."""
    c0, c1, c2, c3 = (word & LOW_32_BITS for word in counter)
    keys = [seed & LOW_32_BITS, seed >> 32 & LOW_32_BITS]
    for _ in range(PHILOX_ROUNDS):
        # The product wraps modulo 2^64, which leaves both halves right.
        products = (c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1])
        (high0, high2), (low0, low2) = ([p >> 32 & LOW_32_BITS for p in products], [p & LOW_32_BITS for p in products])
        c0, c1, c2, c3 = high2 ^ c1 ^ keys[0], low2, high0 ^ c3 ^ keys[1], low0
        keys = [key + step & LOW_32_BITS for key, step in zip(keys, PHILOX_KEY_STEPS, strict=True)]
    return c0, c1, c2, c3


def _scalar(name: str, value: int | Tensor, device: torch.device | str) -> Tensor:
    """An int64 tensor without dimensions; a number is written by a kernel, so that nothing waits for a copy."""
    if isinstance(value, Tensor):
        if value.shape != () or value.dtype != torch.int64:
            raise ValueError(f"random_mask: {name} of shape {tuple(value.shape)} and {value.dtype}: needs one int64")
        return value
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"random_mask: {name} {value} is no 64-bit integer: choose one below 2^63")
    return torch.full((), value, dtype=torch.int64, device=device)


def _check(batch: int, num_tokens: int, num_keep: int, noise: Tensor | None) -> None:
    if not 0 < num_keep < num_tokens:
        raise ValueError(f"random_mask: {num_keep} of {num_tokens} tokens kept: needs at least 1 kept and 1 masked")
    if noise is not None and (noise.shape != (batch, num_tokens) or not noise.is_floating_point()):
        raise ValueError(
            f"random_mask: noise {tuple(noise.shape)} of {noise.dtype}: needs floats for {batch} samples of {num_tokens} tokens"
        )
