"""Maximum mean discrepancy between two sets of features, sound in float32.

Shapes: G groups, P places (ranks) that hold S rows each, R = P S rows of a group, D dimensions.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd.kernels.choice import INTERPRETED, check_devices, register, use_triton
from xkd.kernels.precision import at_least_float32

GAMMAS = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
CHANNELS = 32  # dimensions that a program of `_describe` handles
TILE = 64  # rows, and columns, of the products that a program handles
DEPTH = 32  # of a step of them
PROGRAMS = 256  # that keep a large GPU busy: the products are split along D to reach them
SHORTEST_SPAN = 512  # dimensions of such a split
PAIRS = (16, 64)  # rows and columns that a program of `_compare` handles
# The choice does not change the order in which products are added up.
_SCHEDULES = [triton.Config({}, num_warps=warps, num_stages=3) for warps in ((4,) if INTERPRETED else (4, 8))]


@triton.jit
def _describe(
    rows_ptr,  # [G, R, D]
    centered_ptr,  # [G, R, D] float32, each row less the mean of its own set
    shift_ptr,  # [G, D] float32, the mean of X less that of Y
    lengths_part_ptr,  # [D / CHANNELS, 2, G, R] float32, the squared lengths over these channels, for use within and across sets
    NUM_ROWS: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    NUM_X: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    group = tl.program_id(1).to(tl.int64)
    channels = (tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    sum_x = tl.zeros((ROWS, CHANNELS), tl.float32)
    sum_y = tl.zeros((ROWS, CHANNELS), tl.float32)
    for start in range(0, NUM_ROWS, ROWS):
        rows = start + tl.arange(0, ROWS)
        here = (rows < NUM_ROWS)[:, None] & (channels < D)
        row = tl.load(rows_ptr + (group * NUM_ROWS + rows)[:, None] * D + channels, mask=here, other=0.0).to(tl.float32)
        in_x = (rows % SIZE < NUM_X)[:, None]
        sum_x += tl.where(in_x, row, 0.0)
        sum_y += tl.where(in_x, 0.0, row)
    mean_x = tl.sum(sum_x, 0)[None, :] / (NUM_ROWS // SIZE * NUM_X)
    mean_y = tl.sum(sum_y, 0)[None, :] / (NUM_ROWS // SIZE * (SIZE - NUM_X))
    shift = mean_x - mean_y
    tl.store(shift_ptr + group * D + channels, shift, mask=channels < D)
    within_at = lengths_part_ptr + (tl.program_id(0).to(tl.int64) * 2 * tl.num_programs(1) + group) * NUM_ROWS
    across_at = within_at + tl.num_programs(1) * NUM_ROWS
    for start in range(0, NUM_ROWS, ROWS):
        rows = start + tl.arange(0, ROWS)
        here = (rows < NUM_ROWS)[:, None] & (channels < D)
        at = (group * NUM_ROWS + rows)[:, None] * D + channels
        in_x = (rows % SIZE < NUM_X)[:, None]
        row = tl.load(rows_ptr + at, mask=here, other=0.0).to(tl.float32) - tl.where(in_x, mean_x, mean_y)
        tl.store(centered_ptr + at, row, mask=here)
        within = tl.where(here, row * row, 0.0)
        across = tl.where(here, row * row + 2 * row * tl.where(in_x, shift, -shift) + shift * shift / 2, 0.0)
        tl.store(within_at + rows, tl.sum(within, 1), mask=rows < NUM_ROWS)
        tl.store(across_at + rows, tl.sum(across, 1), mask=rows < NUM_ROWS)


@triton.autotune(_SCHEDULES, key=["NUM_ROWS", "D", "SIZE"])
@triton.jit
def _multiply(
    centered_ptr,  # [G, R, D]
    products_ptr,  # [K, G, S, R] float32, own rows times all rows, over one of K spans of the channels
    first,
    NUM_ROWS: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    SPAN: tl.constexpr,
    DEPTH: tl.constexpr,
    TILE: tl.constexpr,
):
    group = tl.program_id(2).to(tl.int64)
    tiles = tl.cdiv(NUM_ROWS, TILE)
    own = tl.program_id(0) // tiles * TILE + tl.arange(0, TILE)
    rows = tl.program_id(0) % tiles * TILE + tl.arange(0, TILE)
    product = tl.zeros((TILE, TILE), tl.float32)
    for start in range(0, SPAN, DEPTH):
        channels = tl.program_id(1) * SPAN + start + tl.arange(0, DEPTH)
        left_at = (group * NUM_ROWS + first + own)[:, None] * D + channels[None, :]
        left = tl.load(centered_ptr + left_at, mask=(own < SIZE)[:, None] & (channels < D)[None, :], other=0.0)
        right_at = (group * NUM_ROWS + rows)[None, :] * D + channels[:, None]
        right = tl.load(centered_ptr + right_at, mask=(rows < NUM_ROWS)[None, :] & (channels < D)[:, None], other=0.0)
        product = tl.dot(left, right, product, input_precision="tf32x3")
    at = ((tl.program_id(1) * tl.num_programs(2) + group) * SIZE + own)[:, None] * NUM_ROWS + rows
    tl.store(products_ptr + at, product, mask=(own < SIZE)[:, None] & (rows < NUM_ROWS))


@triton.jit
def _less_one(x, exp):
    """exp(-x) - 1 from x >= 0 and exp(-x), near 0 by its series."""
    near = tl.minimum(x, 0.25)
    series = -near * (1 - near / 2 * (1 - near / 3 * (1 - near / 4 * (1 - near / 5 * (1 - near / 6)))))
    return tl.where(x < 0.25, series, exp - 1)


@triton.jit
def _compare(
    products_ptr,  # [K, G, S, R]
    lengths_ptr,  # [2, G, R]
    typical_ptr,  # [G] float32, the mean squared length
    values_part_ptr,  # [G, own tiles, tiles] float32
    slopes_ptr,  # [G, S, R] float32, the W of `mmd`
    first,
    NUM_ROWS: tl.constexpr,
    SIZE: tl.constexpr,
    NUM_X: tl.constexpr,
    GAMMAS: tl.constexpr,
    SPANS: tl.constexpr,
    SLOPES: tl.constexpr,
    OWN: tl.constexpr,
    ROWS: tl.constexpr,
):
    group, groups = tl.program_id(2).to(tl.int64), tl.num_programs(2)
    own = tl.program_id(1) * OWN + tl.arange(0, OWN)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (own < SIZE)[:, None] & (rows < NUM_ROWS)
    pairs_at = (group * SIZE + own)[:, None] * NUM_ROWS + rows
    product = tl.zeros((OWN, ROWS), tl.float32)
    for span in range(SPANS):
        product += tl.load(products_ptr + span * groups * SIZE * NUM_ROWS + pairs_at, mask=inside, other=0.0)
    own_at, rows_at = group * NUM_ROWS + first + own, group * NUM_ROWS + rows
    within_own = tl.load(lengths_ptr + own_at, mask=own < SIZE, other=0.0)[:, None]
    within = tl.load(lengths_ptr + rows_at, mask=rows < NUM_ROWS, other=0.0)
    across_own = tl.load(lengths_ptr + groups * NUM_ROWS + own_at, mask=own < SIZE, other=0.0)[:, None]
    across = tl.load(lengths_ptr + groups * NUM_ROWS + rows_at, mask=rows < NUM_ROWS, other=0.0)
    own_in_x, in_x = (own % SIZE < NUM_X)[:, None], rows % SIZE < NUM_X
    distance = tl.where(own_in_x == in_x, within_own + within, across_own + across) - 2 * product
    itself = (first + own)[:, None] == rows
    distance = tl.where(itself | (distance < 0), 0.0, distance)  # leaves NaN, as tl.maximum would not
    typical = tl.load(typical_ptr + group)
    value = tl.zeros((OWN, ROWS), tl.float32)
    slope = tl.zeros((OWN, ROWS), tl.float32)
    for i in tl.static_range(len(GAMMAS)):
        kernel = tl.exp(-GAMMAS[i] * distance)
        value += tl.where(GAMMAS[i] * typical < 1, _less_one(GAMMAS[i] * distance, kernel), kernel)
        slope += GAMMAS[i] * kernel
    share_x = 1.0 / (NUM_ROWS // SIZE * NUM_X)
    share_y = -1.0 / (NUM_ROWS // SIZE * (SIZE - NUM_X))
    weight = tl.where(own_in_x, share_x, share_y) * tl.where(in_x, share_x, share_y)
    part_at = (group * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    tl.store(values_part_ptr + part_at, tl.sum(tl.where(inside, weight * value, 0.0)))
    if SLOPES:
        tl.store(slopes_ptr + pairs_at, tl.where(itself, 0.0, weight * slope), mask=inside)


@triton.autotune(_SCHEDULES, key=["NUM_ROWS", "D", "SIZE"])
@triton.jit
def _backward(
    grad_ptr,  # [G] float32, of the values
    centered_ptr,  # [G, R, D]
    shift_ptr,  # [G, D]
    slopes_ptr,  # [G, S, R]
    out_ptr,  # [G, S, D]
    first,
    NUM_ROWS: tl.constexpr,
    D: tl.constexpr,
    SIZE: tl.constexpr,
    NUM_X: tl.constexpr,
    DEPTH: tl.constexpr,
    TILE: tl.constexpr,
):
    group = tl.program_id(2).to(tl.int64)
    own = tl.program_id(0) * TILE + tl.arange(0, TILE)
    channels = (tl.program_id(1) * TILE + tl.arange(0, TILE))[None, :]
    own_in_x = (own % SIZE < NUM_X)[:, None]
    weighted = tl.zeros((TILE, TILE), tl.float32)
    slope_sum = tl.zeros((TILE,), tl.float32)
    slope_sum_across = tl.zeros((TILE,), tl.float32)
    for start in range(0, NUM_ROWS, DEPTH):
        rows = start + tl.arange(0, DEPTH)
        inside = (own < SIZE)[:, None] & (rows < NUM_ROWS)
        slopes = tl.load(slopes_ptr + (group * SIZE + own)[:, None] * NUM_ROWS + rows, mask=inside, other=0.0)
        here = (rows < NUM_ROWS)[:, None] & (channels < D)
        row = tl.load(centered_ptr + (group * NUM_ROWS + rows)[:, None] * D + channels, mask=here, other=0.0)
        weighted = tl.dot(slopes, row, weighted, input_precision="tf32x3")
        slope_sum += tl.sum(slopes, 1)
        slope_sum_across += tl.sum(tl.where(own_in_x == (rows % SIZE < NUM_X), 0.0, slopes), 1)
    here = (own < SIZE)[:, None] & (channels < D)
    row = tl.load(centered_ptr + (group * NUM_ROWS + first + own)[:, None] * D + channels, mask=here, other=0.0)
    shift = tl.load(shift_ptr + group * D + channels, mask=channels < D, other=0.0)
    difference = row * slope_sum[:, None] - weighted + tl.where(own_in_x, shift, -shift) * slope_sum_across[:, None]
    out = -4 * tl.load(grad_ptr + group) * difference
    tl.store(out_ptr + (group * SIZE + own)[:, None] * D + channels, out.to(out_ptr.dtype.element_ty), mask=here)


def launch_forward(
    own: Tensor, rows: Tensor, place: int, num_x: int, gammas: list[float], keep_slopes: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The own rows' share of the values [G], and for the backward: the rows less their set's mean [G, R, D], the shift between the
    means [G, D], and W [G, S, R], which is empty unless kept; all in float32."""
    groups, size, dim = own.shape
    num_rows = rows.shape[1]
    values, centered, shift, slopes = _empty_outputs(own, rows, place, num_x, gammas, keep_slopes)
    if not groups:
        return values, centered, shift, slopes
    sizes = {"NUM_ROWS": num_rows, "SIZE": size}
    blocks = triton.cdiv(dim, CHANNELS)
    lengths_part = shift.new_empty(blocks, 2, groups, num_rows)
    _describe[blocks, groups](
        rows.contiguous(), centered, shift, lengths_part, **sizes, D=dim, NUM_X=num_x, ROWS=64, CHANNELS=CHANNELS
    )
    tiles = triton.cdiv(size, TILE) * triton.cdiv(num_rows, TILE)
    span = DEPTH * triton.cdiv(triton.cdiv(dim, max(1, min(PROGRAMS // (tiles * groups), triton.cdiv(dim, SHORTEST_SPAN)))), DEPTH)
    spans = triton.cdiv(dim, span)
    products = shift.new_empty(spans, groups, size, num_rows)
    _multiply[tiles, spans, groups](centered, products, place * size, **sizes, D=dim, SPAN=span, DEPTH=DEPTH, TILE=TILE)
    grid = (triton.cdiv(num_rows, PAIRS[1]), triton.cdiv(size, PAIRS[0]), groups)
    values_part = shift.new_empty(groups, grid[0] * grid[1])
    lengths = lengths_part.sum(0)
    _compare[grid](
        products,
        lengths,
        lengths[0].mean(1),
        values_part,
        slopes,
        place * size,
        **sizes,
        NUM_X=num_x,
        GAMMAS=tuple(gammas),
        SPANS=spans,
        SLOPES=keep_slopes,
        OWN=PAIRS[0],
        ROWS=PAIRS[1],
    )
    return values_part.sum(1), centered, shift, slopes


def launch_backward(
    grad: Tensor, centered: Tensor, shift: Tensor, slopes: Tensor, place: int, num_x: int, dtype: torch.dtype
) -> Tensor:
    """The gradient of own rows [G, S, D]."""
    groups, size, num_rows = slopes.shape
    dim = centered.shape[2]
    out = centered.new_empty(groups, size, dim, dtype=dtype)
    if groups:
        _backward[triton.cdiv(size, TILE), triton.cdiv(dim, TILE), groups](
            grad.contiguous(),
            centered,
            shift,
            slopes,
            out,
            place * size,
            NUM_ROWS=num_rows,
            D=dim,
            SIZE=size,
            NUM_X=num_x,
            DEPTH=DEPTH,
            TILE=TILE,
        )
    return out


def _empty_outputs(own, rows, place, num_x, gammas, keep_slopes):
    groups, size, dim = own.shape
    slopes = (groups, size, rows.shape[1]) if keep_slopes else (0,)
    return tuple(own.new_empty(shape, dtype=torch.float32) for shape in ((groups,), rows.shape, (groups, dim), slopes))


_op = register("mmd", launch_forward)
_op.register_fake(_empty_outputs)
_backward_op = register("mmd_backward", launch_backward)


@_backward_op.register_fake
def _(grad, centered, shift, slopes, place, num_x, dtype):
    return centered.new_empty(*slopes.shape[:2], centered.shape[2], dtype=dtype)


def _save_inputs(ctx, inputs, output):
    own, _, ctx.place, ctx.num_x, *_ = inputs
    ctx.dtype = own.dtype
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:])


def _differentiate(ctx, grad, *_):
    return _backward_op(grad, *ctx.saved_tensors, ctx.place, ctx.num_x, ctx.dtype), None, None, None, None, None


_op.register_autograd(_differentiate, setup_context=_save_inputs)


def mmd(z: Tensor, num_x: int, gammas: tuple[float, ...] = GAMMAS, *, gathered_PSD: Tensor | None = None, place: int = 0) -> Tensor:
    """Biased squared MMD between the first `num_x` rows of z [R, D] and the others; one value a group for z [G, R, D]:

        mean K(X, X) + mean K(Y, Y) - 2 mean K(X, Y),    K(a, b) = sum over gamma of exp(-gamma |a - b|^2)

    |a|^2 + |b|^2 - 2 a.b loses the small distances in float32 when the rows are long vectors (|a|^2 is about 8192 after the
    projector's LayerNorm). So the mean of its own set is first subtracted from each row, which leaves u, and across the sets the
    distance of the means, t = mean X - mean Y, is put back: |x - y|^2 = |u|^2 + 2 u.t + |v|^2 - 2 v.t + |t|^2 - 2 u.v. (With a
    joint mean two tight sets far apart would still lose their distances.) The distance of a row to itself is set to 0. And where
    a gamma's kernel is mostly near 1, the means are those of the kernel less 1, which leaves the sum as it is: the value of two
    nearly equal sets would be what rounding leaves of 7 + 7 - 14.

    Runs in float32 at least, autocast off (take the backward outside autocast too, as ever). The products must be IEEE (torch's
    default) or split in three, not TF32.

    Across ranks: `z` [S, D] are this rank's rows and `gathered_PSD` those of all ranks, `place` being this rank's; the first
    `num_x` of each rank are X. The result is this rank's share of the value: the terms of its own rows, s_ij K_ij summed over its
    i and all j, with s_ij = 1/|X|^2, 1/|Y|^2 or -1/|X||Y|. The shares add up to the MMD of all rows. `z` receives the gradient of
    the whole, not that of the share; other ranks' rows receive none:

        dz_i = -4 (z_i sum_j W_ij - sum_j W_ij z_j),    W_ij = s_ij sum over gamma of gamma exp(-gamma |z_i - z_j|^2)

    Raises ValueError where a set would be empty, the shapes do not fit, or the tensors are not on one device.
    """
    _check(z, num_x, gathered_PSD, place)
    own_GSD = z if z.ndim == 3 else z[None]
    rows_GRD = own_GSD.detach() if gathered_PSD is None else gathered_PSD.detach().flatten(0, 1)[None]
    if use_triton("mmd", z):
        keep_slopes = z.requires_grad and torch.is_grad_enabled()
        values_G = _op(own_GSD, rows_GRD, place, num_x, list(gammas), keep_slopes)[0]
    else:
        values_G = reference(own_GSD, rows_GRD, place, num_x, gammas)
    return values_G if z.ndim == 3 else values_G[0]


def reference(own_GSD: Tensor, rows_GRD: Tensor, place: int, num_x: int, gammas: tuple[float, ...]) -> Tensor:
    """`mmd` in torch, one value a group."""
    with torch.autocast(own_GSD.device.type, enabled=False):
        own_GSD, rows_GRD = at_least_float32(own_GSD), at_least_float32(rows_GRD)
        size, num_rows = own_GSD.shape[1], rows_GRD.shape[1]
        index_R = torch.arange(num_rows, device=rows_GRD.device)
        in_x_R = index_R % size < num_x
        own = slice(place * size, (place + 1) * size)
        x, y = rows_GRD.unflatten(1, (-1, size)).split([num_x, size - num_x], dim=2)
        share_R = in_x_R.to(own_GSD.dtype) / x.shape[1:3].numel() - (~in_x_R).to(own_GSD.dtype) / y.shape[1:3].numel()
        mean_x_G1D, mean_y_G1D = (rows.flatten(1, 2).mean(1, keepdim=True) for rows in (x, y))
        mean_GRD = torch.where(in_x_R[:, None], mean_x_G1D, mean_y_G1D)
        # z stands on both sides of every pair. Here one side is a constant, so the other passes twice its gradient.
        own_GSD = own_GSD + (own_GSD - own_GSD.detach()) - mean_GRD[:, own]
        rows_GRD = rows_GRD - mean_GRD
        shift_GRD = torch.where(in_x_R[:, None], mean_x_G1D - mean_y_G1D, mean_y_G1D - mean_x_G1D)
        within_GS, across_GS = _squared_lengths(own_GSD, shift_GRD[:, own])
        within_GR, across_GR = _squared_lengths(rows_GRD, shift_GRD)
        weight_SR = share_R[own, None] * share_R  # above 0 within a set, below across
        within_GSR, across_GSR = (
            of_own[..., None] + of_rows[:, None] for of_own, of_rows in ((within_GS, within_GR), (across_GS, across_GR))
        )
        lengths_GSR = torch.where(weight_SR > 0, within_GSR, across_GSR)
        distances_GSR = (lengths_GSR - 2 * own_GSD @ rows_GRD.mT).clamp(min=0).masked_fill(index_R[own, None] == index_R, 0)
        typical_G11 = within_GR.detach().mean(1)[:, None, None]
        kernel_GSR = sum(_exp(gamma * distances_GSR, less_one=gamma * typical_G11 < 1) for gamma in gammas)
        return (kernel_GSR * weight_SR).sum((1, 2))


def _exp(x: Tensor, less_one: Tensor) -> Tensor:
    """exp(-x) of x >= 0, or that less 1. Only expm1 resolves this where x is small, only exp its gradient where x is large."""
    return torch.where(less_one & (x < 1), torch.expm1(-x), torch.exp(-x) - less_one.to(x.dtype))


def _squared_lengths(rows_GRD: Tensor, shift_GRD: Tensor) -> tuple[Tensor, Tensor]:
    """What each row adds to the squared distances to its own set, and to the other one, `shift` away."""
    within_GR = rows_GRD.square().sum(-1)
    return within_GR, within_GR + (2 * rows_GRD * shift_GRD + shift_GRD.square() / 2).sum(-1)


def _check(z: Tensor, num_x: int, gathered_PSD: Tensor | None, place: int) -> None:
    if z.ndim not in (2, 3) or not 0 < num_x < z.shape[-2] or not z.shape[-1]:
        raise ValueError(
            f"mmd: the first {num_x} rows of {tuple(z.shape)}: needs [R, D] or [G, R, D], and 1 to R - 1 rows in each set"
        )
    if not z.is_floating_point():
        raise ValueError(f"mmd: rows of {z.dtype}: needs floating point")
    if gathered_PSD is not None:
        check_devices("mmd", z=z, gathered=gathered_PSD)
        fits = z.ndim == 2 and gathered_PSD.ndim == 3 and gathered_PSD.shape[1:] == z.shape and gathered_PSD.dtype == z.dtype
        if not fits or not 0 <= place < len(gathered_PSD):
            raise ValueError(
                f"mmd: place {place} of the gathered {tuple(gathered_PSD.shape)} {gathered_PSD.dtype} does not fit z "
                f"{tuple(z.shape)} {z.dtype}: needs [P, S, D] and [S, D] of one dtype, and a place below P"
            )
    elif place:
        raise ValueError(f"mmd: place {place} without the gathered rows of all places")
