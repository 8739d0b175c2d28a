"""Mean squared error between predicted and real masked patches.

Shapes: B samples, C channels, T frames, H and W pixels, N patches a clip, M masked ones, P values a patch.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd.kernels import patch_gather
from xkd.kernels.choice import check_devices, register, use_triton
from xkd.kernels.patch_gather import addressable, check_clip, load_patches, patch_columns, tile_of
from xkd.kernels.precision import at_least_float32

VARIANCE_EPSILON = 1e-6


@triton.jit
def _forward(
    clip_ptr,  # [B, C, T, H, W], strided
    drop_ptr,  # [B, M]
    pred_ptr,  # [B, M, P]
    mean_ptr,  # [C]; None: the clip as it is
    std_ptr,  # [C]
    loss_ptr,  # [programs] float32
    scale,  # 1 / (B M P)
    num_rows,  # B M
    num_masked,
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
    NORM: tl.constexpr,
    EPSILON: tl.constexpr,
):
    tensors, sizes = (clip_ptr, drop_ptr, pred_ptr, mean_ptr, std_ptr), (num_rows, num_masked, num_tokens, strides)
    residual, _, _, _ = _residual(tensors, sizes, NH, NW, C, PT, PH, PW, ROWS, PIXELS, CHANNELS, NORM, EPSILON)
    tl.store(loss_ptr + tl.program_id(0), tl.sum(residual * residual) * scale)


@triton.jit
def _backward(
    grad_ptr,  # [] of the loss
    clip_ptr,  # [B, C, T, H, W], strided
    drop_ptr,  # [B, M]
    pred_ptr,  # [B, M, P]
    mean_ptr,  # [C]; None: the clip as it is
    std_ptr,  # [C]
    pred_grad_ptr,  # [B, M, P]
    scale,  # 2 / (B M P)
    num_rows,  # B M
    num_masked,
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
    NORM: tl.constexpr,
    EPSILON: tl.constexpr,
):
    tensors, sizes = (clip_ptr, drop_ptr, pred_ptr, mean_ptr, std_ptr), (num_rows, num_masked, num_tokens, strides)
    residual, first, columns, inside = _residual(tensors, sizes, NH, NW, C, PT, PH, PW, ROWS, PIXELS, CHANNELS, NORM, EPSILON)
    pred_grad = residual * (scale * tl.load(grad_ptr).to(tl.float32))
    tl.store(pred_grad_ptr + first + columns, pred_grad.to(pred_grad_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _residual(
    tensors,
    sizes,
    NH: tl.constexpr,
    NW: tl.constexpr,
    C: tl.constexpr,
    PT: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    ROWS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    NORM: tl.constexpr,
    EPSILON: tl.constexpr,
):
    """pred - target [ROWS, PIXELS, CHANNELS], 0 outside; where its rows begin in `pred`; its columns; which values are inside."""
    P: tl.constexpr = C * PT * PH * PW
    clip_ptr, drop_ptr, pred_ptr, mean_ptr, std_ptr = tensors
    num_rows, num_masked, num_tokens, strides = sizes
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    here = rows < num_rows
    columns, real = patch_columns(C, PT * PH * PW, PIXELS, CHANNELS)
    first, inside = rows.to(tl.int64)[:, None, None] * P, here[:, None, None] & real
    pred = tl.load(pred_ptr + first + columns, mask=inside, other=0.0).to(tl.float32)
    # Divisions of 64 bits cost dozens of instructions: only addresses are so wide.
    ids, samples = tl.load(drop_ptr + rows, mask=here, other=0).to(tl.int32), (rows // num_masked).to(tl.int64)
    target = load_patches(
        clip_ptr, mean_ptr, std_ptr, samples, ids, here, num_tokens, strides, NH, NW, C, PT, PH, PW, PIXELS, CHANNELS
    )
    target = tl.where(inside, target, 0.0)
    if NORM:
        mean = tl.sum(tl.reshape(target, (ROWS, PIXELS * CHANNELS)), 1) / P
        target = tl.where(inside, target - mean[:, None, None], 0.0)
        variance = tl.sum(tl.reshape(target * target, (ROWS, PIXELS * CHANNELS)), 1) / (P - 1)
        target *= (1.0 / tl.sqrt(variance + EPSILON))[:, None, None]
    return pred - target, first, columns, inside


def launch_forward(
    clip: Tensor, drop: Tensor, pred: Tensor, mean: Tensor | None, std: Tensor | None, patch: list[int], norm_pix_loss: bool
) -> Tensor:
    """`masked_recon_loss` in Triton."""
    clip = addressable(clip)
    tile = tile_of(clip, patch)
    losses = pred.new_empty(triton.cdiv(drop.numel(), tile["ROWS"]), dtype=torch.float32)
    _forward[(len(losses),)](
        *_inputs(clip, drop, pred, mean, std),
        losses,
        1 / pred.numel(),
        *_sizes(clip, drop, patch),
        **tile,
        NORM=norm_pix_loss,
        EPSILON=VARIANCE_EPSILON,
    )
    return losses.sum()


def launch_backward(
    grad: Tensor,
    clip: Tensor,
    drop: Tensor,
    pred: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    patch: list[int],
    norm_pix_loss: bool,
) -> Tensor:
    """Gradient of `pred` [B, M, P] for the gradient `grad` [] of the loss."""
    clip = addressable(clip)
    tile = tile_of(clip, patch)
    pred_grad = pred.new_empty(pred.shape)
    _backward[(triton.cdiv(drop.numel(), tile["ROWS"]),)](
        grad,
        *_inputs(clip, drop, pred, mean, std),
        pred_grad,
        2 / pred.numel(),
        *_sizes(clip, drop, patch),
        **tile,
        NORM=norm_pix_loss,
        EPSILON=VARIANCE_EPSILON,
    )
    return pred_grad


def _inputs(clip: Tensor, drop: Tensor, pred: Tensor, mean: Tensor | None, std: Tensor | None) -> tuple:
    levels = (None if each is None else each.float().contiguous() for each in (mean, std))
    return clip, drop.contiguous(), pred.contiguous(), *levels


def _sizes(clip: Tensor, drop: Tensor, patch: list[int]) -> tuple:
    return drop.numel(), drop.shape[1], math.prod(clip.shape[2:]) // math.prod(patch), clip.stride()


_op = register("masked_recon_loss", launch_forward)
_backward_op = register("masked_recon_loss_backward", launch_backward)


@_op.register_fake
def _(clip, drop, pred, mean, std, patch, norm_pix_loss):
    return pred.new_empty((), dtype=torch.float32)


@_backward_op.register_fake
def _(grad, clip, drop, pred, mean, std, patch, norm_pix_loss):
    return pred.new_empty(pred.shape)


def _save_inputs(ctx, inputs, output):
    *tensors, ctx.patch, ctx.norm_pix_loss = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx, grad):
    pred_grad = _backward_op(grad, *ctx.saved_tensors, ctx.patch, ctx.norm_pix_loss)
    return None, None, pred_grad, None, None, None, None


_op.register_autograd(_differentiate, setup_context=_save_inputs)


def masked_recon_loss(
    clip_BCTHW: Tensor,
    drop_BM: Tensor,
    pred_BMP: Tensor,
    patch: tuple[int, int, int],
    norm_pix_loss: bool = True,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
) -> Tensor:
    """mean over B, M, P of (pred - target)^2, in float32 at least; the gradient goes to `pred_BMP` only.

    target = the patch itself, or with `norm_pix_loss` the patch standardised by its own values:

        (x - mean(x)) / sqrt(var(x) + 1e-6),    var unbiased (divisor P - 1)

    `mean` and `std` [C], in the clip's units, normalise the clip's channels first, as in `patch_gather`, which also says what a
    clip may be. Raises ValueError where shapes, dtypes or devices do not fit or nothing is masked.
    """
    _check(clip_BCTHW, drop_BM, pred_BMP, patch, norm_pix_loss, mean, std)
    fused = use_triton("masked_recon_loss", clip_BCTHW) and use_triton("masked_recon_loss", pred_BMP)
    return (_op if fused else reference)(clip_BCTHW, drop_BM, pred_BMP, mean, std, patch, norm_pix_loss)


def reference(
    clip_BCTHW: Tensor,
    drop_BM: Tensor,
    pred_BMP: Tensor,
    mean: Tensor | None,
    std: Tensor | None,
    patch: tuple[int, int, int],
    norm_pix_loss: bool,
) -> Tensor:
    """`masked_recon_loss` in torch."""
    dtype = torch.promote_types(clip_BCTHW.dtype, torch.float32)
    target_BMP = patch_gather.reference(clip_BCTHW.detach(), drop_BM, mean, std, patch, dtype)
    if norm_pix_loss:
        mean_BM1, std_BM1 = patch_statistics(target_BMP)
        target_BMP = (target_BMP - mean_BM1) / std_BM1
    return (at_least_float32(pred_BMP) - target_BMP).square().mean()


def patch_statistics(patches_BMP: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sqrt(unbiased variance + 1e-6) of each patch, [B, M, 1] each."""
    # Two passes: torch.var_mean is 30 times slower than this on the CPU.
    mean = patches_BMP.mean(-1, keepdim=True)
    variance = (patches_BMP - mean).square().sum(-1, keepdim=True) / (patches_BMP.shape[-1] - 1)
    return mean, (variance + VARIANCE_EPSILON).sqrt()


def _check(
    clip: Tensor,
    drop: Tensor,
    pred: Tensor,
    patch: tuple[int, int, int],
    norm_pix_loss: bool,
    mean: Tensor | None,
    std: Tensor | None,
) -> None:
    check_clip("masked_recon_loss", clip, drop, patch, mean, std)
    check_devices("masked_recon_loss", clip=clip, pred=pred)
    expected = (*drop.shape, clip.shape[1] * math.prod(patch))
    if pred.shape != expected:
        raise ValueError(f"masked_recon_loss: pred {tuple(pred.shape)}: needs [B, M, P] = {expected} for these clips and patches")
    if not pred.is_floating_point():
        raise ValueError(f"masked_recon_loss: pred is {pred.dtype}: needs floating point")
    if not pred.numel():
        raise ValueError(f"masked_recon_loss: nothing is masked: drop {tuple(drop.shape)}")
    if norm_pix_loss and expected[-1] < 2:
        raise ValueError(f"masked_recon_loss: a patch of {expected[-1]} value has no variance: needs 2, or norm_pix_loss: false")
