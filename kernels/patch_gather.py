"""Cuts chosen patches out of a clip, reading nothing else of it.

Shapes: B samples, C channels, T frames, H and W pixels, N patches a clip, K chosen ones, P values a patch.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd.kernels.choice import check_devices, register, use_triton
from xkd.kernels.precision import at_least_float32

RESULT_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
CLIP_DTYPES = (torch.uint8, *RESULT_DTYPES)
VALUES = 2048  # that a program handles at least: small patches go several to a program
MAX_VALUES = 16384  # and at most: a patch, its sides rounded up to powers of two, stays in registers


@triton.jit
def _forward(
    clip_ptr,  # [B, C, T, H, W], strided
    ids_ptr,  # [B, K]; None: all N patches
    mean_ptr,  # [C]; None: values stay as they are
    std_ptr,  # [C]
    out_ptr,  # [B, K, P]
    num_rows,
    num_chosen,
    num_tokens,
    strides,  # of the clip
    NH: tl.constexpr,
    NW: tl.constexpr,
    C: tl.constexpr,
    PT: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    ROWS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    here = rows < num_rows
    ids = rows % num_chosen if ids_ptr is None else tl.load(ids_ptr + rows, mask=here, other=0)
    values = load_patches(
        clip_ptr, mean_ptr, std_ptr, rows // num_chosen, ids, here, num_tokens, strides, NH, NW, C, PT, PH, PW, PIXELS, CHANNELS
    )
    columns, real = patch_columns(C, PT * PH * PW, PIXELS, CHANNELS)
    out_at = rows[:, None, None] * (PT * PH * PW * C) + columns
    tl.store(out_ptr + out_at, values.to(out_ptr.dtype.element_ty), mask=here[:, None, None] & real)


@triton.jit
def load_patches(
    clip_ptr,  # [B, C, T, H, W], strided
    mean_ptr,  # [C]; None: values stay as they are
    std_ptr,  # [C]
    samples,  # [ROWS] int64
    ids,  # [ROWS]; of a patch outside the clip nothing is read
    here,  # [ROWS] bool
    num_tokens,
    strides,  # of the clip
    NH: tl.constexpr,
    NW: tl.constexpr,
    C: tl.constexpr,
    PT: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Normalised patches [ROWS, PIXELS, CHANNELS] in float32, pixels numbered (pt ph pw); PIXELS and CHANNELS are powers of 2."""
    pixel = tl.arange(0, PIXELS)[None, :, None]
    channel = tl.arange(0, CHANNELS)[None, None, :]
    pixel_at = pixel // (PH * PW) * strides[2] + pixel // PW % PH * strides[3] + pixel % PW * strides[4]
    corner_at = ids // (NH * NW) * PT * strides[2] + ids // NW % NH * PH * strides[3] + ids % NW * PW * strides[4]
    # Along pixels the clip lies in rows of PW, the result along channels: Triton loads one way and stores the other.
    at = (samples * strides[0] + corner_at)[:, None, None] + (pixel_at + channel * strides[1])
    inside = (here & (ids >= 0) & (ids < num_tokens))[:, None, None] & (pixel < PT * PH * PW) & (channel < C)
    values = tl.load(clip_ptr + at, mask=inside, other=0).to(tl.float32)
    if mean_ptr is not None:
        mean = tl.load(mean_ptr + channel, mask=channel < C, other=0.0)
        std = tl.load(std_ptr + channel, mask=channel < C, other=1.0)
        # One division a channel, rounded as torch rounds it: the result equals the reference's to the last bit.
        values = (values - mean) * tl.div_rn(tl.full(std.shape, 1.0, tl.float32), std)
    return values


@triton.jit
def patch_columns(C: tl.constexpr, SIZE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):
    """Where the values of `load_patches` stand in a row of P = SIZE * C, [1, PIXELS, CHANNELS], and which are real."""
    pixel = tl.arange(0, PIXELS)[None, :, None]
    channel = tl.arange(0, CHANNELS)[None, None, :]
    return pixel * C + channel, (pixel < SIZE) & (channel < C)


def launch_forward(
    clip: Tensor, ids: Tensor | None, mean: Tensor | None, std: Tensor | None, patch: list[int], dtype: torch.dtype
) -> Tensor:
    """`patch_gather` in Triton."""
    clip = addressable(clip)
    out = _empty_output(clip, ids, mean, std, patch, dtype)
    batch, num_chosen, _ = out.shape
    tile = tile_of(clip, patch)
    if out.numel():
        _forward[(triton.cdiv(batch * num_chosen, tile["ROWS"]),)](
            clip,
            None if ids is None else ids.contiguous(),
            *(None if levels is None else levels.float().contiguous() for levels in (mean, std)),
            out,
            batch * num_chosen,
            num_chosen,
            math.prod(_grid(clip.shape, patch)),
            clip.stride(),
            **tile,
        )
    return out


def addressable(clip: Tensor) -> Tensor:
    """The clip, copied where a sample stretches over so much memory that its offsets, of 32 bits in the kernels, do not reach it.

    Layouts with the batch inside, of 2^31 values in all, are such.
    """
    reach = sum((side - 1) * stride for side, stride in zip(clip.shape[1:], clip.stride()[1:], strict=True))
    return clip if reach < 2**31 else clip.contiguous()


def tile_of(clip: Tensor, patch: list[int]) -> dict[str, int]:
    """How programs cut a clip: the constants of `load_patches`, ROWS patches to a program, and num_warps.

    Raises ValueError where a patch does not fit a program.
    """
    _, nh, nw = _grid(clip.shape, patch)
    pixels, channels = triton.next_power_of_2(math.prod(patch)), triton.next_power_of_2(clip.shape[1])
    if pixels * channels > MAX_VALUES:
        raise ValueError(
            f"a patch of {math.prod(patch)} x {clip.shape[1]} values is too large for Triton's kernels, which take "
            f"{MAX_VALUES:,} (of each factor rounded up to a power of two): choose smaller patches, or set XKD_KERNELS=torch"
        )
    rows = max(1, VALUES // (pixels * channels))
    values = rows * pixels * channels
    warps = 32 if values == MAX_VALUES else max(4, values // 1024)  # with 16 warps the largest patches spill on sm_80
    constants = dict(zip(("PT", "PH", "PW"), patch, strict=True), NH=nh, NW=nw, C=clip.shape[1])
    return constants | {"ROWS": rows, "PIXELS": pixels, "CHANNELS": channels, "num_warps": warps}


def _grid(shape: torch.Size, patch: list[int]) -> tuple[int, int, int]:
    """Patches along (time, rows, columns) of a clip."""
    return tuple(side // p for side, p in zip(shape[2:], patch, strict=True))


def _empty_output(
    clip: Tensor, ids: Tensor | None, mean: Tensor | None, std: Tensor | None, patch: list[int], dtype: torch.dtype
) -> Tensor:
    num_chosen = math.prod(_grid(clip.shape, patch)) if ids is None else ids.shape[1]
    return clip.new_empty(clip.shape[0], num_chosen, clip.shape[1] * math.prod(patch), dtype=dtype)


_op = register("patch_gather", launch_forward)
_op.register_fake(_empty_output)


def _save_inputs(ctx, inputs, output):
    clip, ids, _, std, ctx.patch, _ = inputs
    ctx.save_for_backward(ids, std)
    ctx.shape, ctx.dtype = clip.shape, clip.dtype


def _differentiate(ctx, grad):
    """The clip's gradient, in torch: training asks for none."""
    ids, std = ctx.saved_tensors
    grad = grad.float()
    if std is not None:
        grad = (grad.unflatten(-1, (-1, len(std))) / std).flatten(-2)
    if ids is not None:
        grad = _accumulate(grad, ids, math.prod(_grid(ctx.shape, ctx.patch)))
    return patch_scatter(grad, ctx.shape[1:], ctx.patch).to(ctx.dtype), None, None, None, None, None


_op.register_autograd(_differentiate, setup_context=_save_inputs)


def patch_gather(
    clip_BCTHW: Tensor,
    ids_BK: Tensor | None,
    patch: tuple[int, int, int],
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The patches `ids_BK` of a clip, as rows of values: [B, K, P] with P = pt * ph * pw * C.

        out[b, k, (a, i, j, c)] = (clip[b, c, t * pt + a, h * ph + i, w * pw + j] - mean[c]) / std[c],
        ids[b, k] = (t * nh + h) * nw + w

    Patches are numbered (t h w), their values (pt ph pw c). A spectrogram is a clip of one frame and one channel. Without ids:
    all N patches in order; an id that is none of 0 .. N - 1 is an error on the CPU and undefined on a GPU. Without `mean` and
    `std` [C], in the clip's units, values stay as they are. The result has `dtype`, by default the clip's, or float32 where that
    is uint8; the gradient reaches a clip of floats. Raises ValueError where shapes, dtypes or devices do not fit.
    """
    if dtype is None:
        dtype = clip_BCTHW.dtype if clip_BCTHW.is_floating_point() else torch.float32
    check_clip("patch_gather", clip_BCTHW, ids_BK, patch, mean, std)
    if dtype not in RESULT_DTYPES:
        raise ValueError(f"patch_gather: a result of {dtype}: needs one of {_names(RESULT_DTYPES)}")
    if dtype == torch.float64:
        clip_BCTHW = clip_BCTHW.double()  # so that all of it happens in float64, in torch
    function = _op if use_triton("patch_gather", clip_BCTHW) else reference
    return function(clip_BCTHW, ids_BK, mean, std, patch, dtype)


def reference(
    clip_BCTHW: Tensor,
    ids_BK: Tensor | None,
    mean: Tensor | None,
    std: Tensor | None,
    patch: tuple[int, int, int],
    dtype: torch.dtype,
) -> Tensor:
    """`patch_gather` in torch."""
    blocks = _blocks(clip_BCTHW, patch)
    batch, nt, nh, nw = blocks.shape[:4]
    if ids_BK is None:
        chosen = blocks.reshape(batch, nt * nh * nw, *blocks.shape[4:])
    else:
        rows_B1 = torch.arange(batch, device=clip_BCTHW.device)[:, None]
        chosen = blocks[rows_B1, ids_BK // (nh * nw), ids_BK // nw % nh, ids_BK % nw]
    if mean is not None:
        chosen = at_least_float32(chosen)
        mean, std = (levels.detach().to(chosen.dtype) for levels in (mean, std))
        chosen = (chosen - mean) * std.reciprocal()
    return chosen.flatten(2).to(dtype)


def patch_scatter(patches_BNP: Tensor, shape: tuple[int, int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """The clip [B, C, T, H, W] with shape (C, T, H, W) whose patches, all N in order, are `patches_BNP`."""
    grid = _grid((None, *shape), patch)
    blocks = patches_BNP.unflatten(1, grid).unflatten(-1, (*patch, shape[0]))
    return blocks.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(len(patches_BNP), *shape)


def _accumulate(patches_BKP: Tensor, ids_BK: Tensor, num_tokens: int) -> Tensor:
    """All N patches [B, N, P], each the sum of the rows that bear its id."""
    everything = patches_BKP.new_zeros(len(ids_BK), num_tokens, patches_BKP.shape[-1])
    return everything.scatter_add(1, ids_BK[..., None].expand_as(patches_BKP), patches_BKP)


def _blocks(clip_BCTHW: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """A view [B, nt, nh, nw, pt, ph, pw, C] of the clip; nothing is copied."""
    pt, ph, pw = patch
    return clip_BCTHW.unfold(2, pt, pt).unfold(3, ph, ph).unfold(4, pw, pw).permute(0, 2, 3, 4, 5, 6, 7, 1)


def check_clip(
    op: str, clip: Tensor, ids: Tensor | None, patch: tuple[int, int, int], mean: Tensor | None, std: Tensor | None
) -> None:
    """Raises ValueError, in the name of `op`, where these do not fit together."""
    given = {"clip": clip, "ids": ids, "mean": mean, "std": std}
    check_devices(op, **{name: tensor for name, tensor in given.items() if tensor is not None})
    shape = tuple(clip.shape)
    if clip.ndim != 5 or clip.dtype not in CLIP_DTYPES:
        raise ValueError(f"{op}: a clip {shape} of {clip.dtype}: needs [B, C, T, H, W] of one of {_names(CLIP_DTYPES)}")
    if len(patch) != 3 or min(patch) < 1 or any(side % p for side, p in zip(shape[2:], patch, strict=True)):
        raise ValueError(f"{op}: a clip {shape} cannot be cut into patches {tuple(patch)}: every side must be a multiple")
    if ids is not None and (ids.ndim != 2 or len(ids) != len(clip) or ids.dtype not in (torch.int64, torch.int32)):
        raise ValueError(f"{op}: ids {tuple(ids.shape)} of {ids.dtype} for a clip {shape}: needs [B, K] of int64 or int32")
    if (mean is None) != (std is None) or (mean is not None and not mean.shape == std.shape == shape[1:2]):
        found = [None if levels is None else tuple(levels.shape) for levels in (mean, std)]
        raise ValueError(f"{op}: mean {found[0]} and std {found[1]}: needs both or none, a value for each of {shape[1]} channels")


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
