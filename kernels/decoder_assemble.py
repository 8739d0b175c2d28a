"""Puts mask tokens back between the visible tokens and adds the decoder's positions.

Shapes: B samples, C leading class tokens (0 or 1), K visible tokens, N tokens in all, D channels; X = C + K, Y = C + N.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd.kernels.choice import check_devices, register, use_triton

ROWS = 8  # tokens of a sample that one program handles at most,
VALUES = 4096  # and their values, rounded up to powers of two, which stay in registers
SAMPLES = 8  # samples over which one program of the backward adds up; the partial sums are added afterwards, in a fixed order


@triton.jit
def _forward(
    tokens_ptr,  # [B, X, D]
    mask_token_ptr,  # [D]
    positions_ptr,  # [Y, D]
    restore_ptr,  # [B, N] int64
    out_ptr,  # [B, Y, D]
    num_keep,
    num_tokens,
    NUM_CLASS: tl.constexpr,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    sample = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channels = tl.arange(0, BLOCK_D)[None, :]
    inside = (places < NUM_CLASS + num_tokens)[:, None] & (channels < D)
    rows = _source_rows(restore_ptr, sample, places, num_tokens, places < NUM_CLASS + num_tokens, NUM_CLASS)
    masked = (rows >= NUM_CLASS + num_keep)[:, None]
    tokens_at = (sample * (NUM_CLASS + num_keep) + rows)[:, None] * D + channels
    token = tl.load(tokens_ptr + tokens_at, mask=inside & ~masked, other=0.0).to(tl.float32)
    # The mask token takes part in the tokens' precision, as in the reference.
    mask_token = tl.load(mask_token_ptr + channels, mask=channels < D, other=0.0).to(tokens_ptr.dtype.element_ty).to(tl.float32)
    position = tl.load(positions_ptr + places[:, None] * D + channels, mask=inside, other=0.0).to(tl.float32)
    out_at = (sample * (NUM_CLASS + num_tokens) + places)[:, None] * D + channels
    tl.store(out_ptr + out_at, (tl.where(masked, mask_token, token) + position).to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _source_rows(restore_ptr, sample, places, num_tokens, here, NUM_CLASS: tl.constexpr):
    """The row of `tokens` that stands at each place of the output; from C + K on it is the mask token."""
    order = tl.load(restore_ptr + sample * num_tokens + places - NUM_CLASS, mask=here & (places >= NUM_CLASS), other=0)
    return tl.where(places < NUM_CLASS, places, order + NUM_CLASS)


@triton.jit
def _backward(
    grad_ptr,  # [B, Y, D] of the output
    restore_ptr,  # [B, N] int64
    tokens_grad_ptr,  # [B, X, D]
    positions_part_ptr,  # [S, Y, D] float32, sums over the samples of a split
    mask_part_ptr,  # [S, Y / ROWS, D] float32, sums over those samples and the masked among ROWS places
    batch,
    num_keep,
    num_tokens,
    NUM_CLASS: tl.constexpr,
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    split = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    channels = tl.arange(0, BLOCK_D)[None, :]
    inside = (places < NUM_CLASS + num_tokens)[:, None] & (channels < D)
    positions_grad = tl.zeros((ROWS, BLOCK_D), tl.float32)
    mask_grad = tl.zeros((BLOCK_D,), tl.float32)
    for i in range(SAMPLES):
        sample = split * SAMPLES + i
        here = inside & (sample < batch)
        rows = _source_rows(
            restore_ptr, sample, places, num_tokens, (places < NUM_CLASS + num_tokens) & (sample < batch), NUM_CLASS
        )
        masked = (rows >= NUM_CLASS + num_keep)[:, None]
        grad_at = (sample * (NUM_CLASS + num_tokens) + places)[:, None] * D + channels
        grad = tl.load(grad_ptr + grad_at, mask=here, other=0.0)
        tokens_at = (sample * (NUM_CLASS + num_keep) + rows)[:, None] * D + channels
        tl.store(tokens_grad_ptr + tokens_at, grad.to(tokens_grad_ptr.dtype.element_ty), mask=here & ~masked)
        positions_grad += grad.to(tl.float32)
        mask_grad += tl.sum(tl.where(masked, grad.to(tl.float32), 0.0), 0)
    part_at = (split * (NUM_CLASS + num_tokens) + places)[:, None] * D + channels
    tl.store(positions_part_ptr + part_at, positions_grad, mask=inside)
    mask_at = (split * tl.num_programs(1) + tl.program_id(1)) * D + tl.arange(0, BLOCK_D)
    tl.store(mask_part_ptr + mask_at, mask_grad, mask=tl.arange(0, BLOCK_D) < D)


def launch_forward(tokens: Tensor, mask_token: Tensor, positions: Tensor, restore: Tensor) -> Tensor:
    """`decoder_assemble` in Triton."""
    batch, num_tokens = restore.shape
    num_places, dim = positions.shape
    num_class = num_places - num_tokens
    out = _empty_output(tokens, mask_token, positions, restore)
    tile = _tile(dim)
    if out.numel():
        _forward[batch, triton.cdiv(num_places, tile["ROWS"])](
            *(tensor.contiguous() for tensor in (tokens, mask_token, positions, restore)),
            out,
            tokens.shape[1] - num_class,
            num_tokens,
            NUM_CLASS=num_class,
            **tile,
        )
    return out


def launch_backward(grad: Tensor, restore: Tensor, num_keep: int, tokens_dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of tokens [B, X, D], mask token [D] and positions [Y, D] (the last two in float32) in one read of `grad`."""
    batch, num_places, dim = grad.shape
    num_tokens = restore.shape[1]
    num_class = num_places - num_tokens
    tile = _tile(dim)
    splits, blocks = triton.cdiv(batch, SAMPLES), triton.cdiv(num_places, tile["ROWS"])
    tokens_grad = grad.new_empty(batch, num_class + num_keep, dim, dtype=tokens_dtype)
    positions_part = grad.new_empty(splits, num_places, dim, dtype=torch.float32)
    mask_part = grad.new_empty(splits, blocks, dim, dtype=torch.float32)
    if grad.numel():
        _backward[splits, blocks](
            grad.contiguous(),
            restore.contiguous(),
            tokens_grad,
            positions_part,
            mask_part,
            batch,
            num_keep,
            num_tokens,
            NUM_CLASS=num_class,
            SAMPLES=SAMPLES,
            **tile,
        )
    return tokens_grad, mask_part.sum((0, 1)), positions_part.sum(0)


def _tile(dim: int) -> dict[str, int]:
    """How programs cut rows of `dim` values: their constants."""
    block = triton.next_power_of_2(dim)
    return {"D": dim, "ROWS": max(1, min(ROWS, VALUES // block)), "BLOCK_D": block}


def _empty_output(tokens: Tensor, mask_token: Tensor, positions: Tensor, restore: Tensor) -> Tensor:
    dtype = torch.promote_types(tokens.dtype, positions.dtype)
    return tokens.new_empty(restore.shape[0], *positions.shape, dtype=dtype)


_op = register("decoder_assemble", launch_forward)
_op.register_fake(_empty_output)
_backward_op = register("decoder_assemble_backward", launch_backward)


@_backward_op.register_fake
def _(grad, restore, num_keep, tokens_dtype):
    batch, num_places, dim = grad.shape
    tokens_grad = grad.new_empty(batch, num_places - restore.shape[1] + num_keep, dim, dtype=tokens_dtype)
    return tokens_grad, grad.new_empty(dim, dtype=torch.float32), grad.new_empty(num_places, dim, dtype=torch.float32)


def _save_inputs(ctx, inputs, output):
    tokens, mask_token, positions, restore = inputs
    ctx.save_for_backward(restore)
    ctx.num_keep = tokens.shape[1] - positions.shape[0] + restore.shape[1]
    ctx.dtypes = tokens.dtype, mask_token.dtype, positions.dtype


def _differentiate(ctx, grad):
    grads = _backward_op(grad, *ctx.saved_tensors, ctx.num_keep, ctx.dtypes[0])
    return *(grad.to(dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True)), None


_op.register_autograd(_differentiate, setup_context=_save_inputs)


def decoder_assemble(tokens_BXD: Tensor, mask_token_D: Tensor, positions_YD: Tensor, restore_BN: Tensor) -> Tensor:
    """The decoder's input [B, C+N, D] from `tokens_BXD`, X = C+K, and `positions_YD`, Y = C+N.

        out[b, c]     = tokens[b, c] + positions[c]                                       for the C class tokens
        out[b, C + n] = (tokens[b, C + r] if r < K else mask_token) + positions[C + n],   r = restore[b, n]

    `restore_BN` is that of `random_mask`: the place of token n in [visible; masked]. Raises ValueError where the shapes do not fit
    or the tensors are not on one device.
    """
    arguments = {"tokens": tokens_BXD, "mask_token": mask_token_D, "positions": positions_YD, "restore": restore_BN}
    _check(**arguments)
    return (_op if use_triton("decoder_assemble", tokens_BXD) else reference)(*arguments.values())


def reference(tokens_BXD: Tensor, mask_token_D: Tensor, positions_YD: Tensor, restore_BN: Tensor) -> Tensor:
    """`decoder_assemble` in torch."""
    batch, num_tokens = restore_BN.shape
    num_class = len(positions_YD) - num_tokens
    num_keep = tokens_BXD.shape[1] - num_class
    # The mask token joins as one more source row, so that every output row is a row of `sources`.
    mask_B1D = mask_token_D.to(tokens_BXD.dtype).expand(batch, 1, -1)
    sources_BSD = torch.cat([tokens_BXD, mask_B1D], dim=1)
    index_BN = restore_BN.clamp(max=num_keep) + num_class
    index_BY = torch.cat([index_BN.new_zeros(batch, num_class), index_BN], dim=1)
    return take_tokens(sources_BSD, index_BY) + positions_YD


def take_tokens(tokens_BND: Tensor, ids_BK: Tensor) -> Tensor:
    """tokens[b, ids[b, k]] as [B, K, D]: a row gather, whose backward is an index_add rather than an element scatter."""
    batch, num_tokens, _ = tokens_BND.shape
    offsets_B1 = torch.arange(batch, device=ids_BK.device)[:, None] * num_tokens
    return tokens_BND.flatten(0, 1).index_select(0, (ids_BK + offsets_B1).flatten()).unflatten(0, ids_BK.shape)


def _check(tokens: Tensor, mask_token: Tensor, positions: Tensor, restore: Tensor) -> None:
    check_devices("decoder_assemble", tokens=tokens, mask_token=mask_token, positions=positions, restore=restore)
    if (restore.ndim, positions.ndim, tokens.ndim) != (2, 2, 3):
        shapes = [tuple(each.shape) for each in (tokens, positions, restore)]
        raise ValueError(
            f"decoder_assemble: tokens {shapes[0]}, positions {shapes[1]}, restore {shapes[2]}: needs 3, 2, 2 dimensions"
        )
    floats = all(each.is_floating_point() for each in (tokens, mask_token, positions))
    if not floats or restore.dtype not in (torch.int64, torch.int32):
        dtypes = [each.dtype for each in (tokens, mask_token, positions, restore)]
        raise ValueError(f"decoder_assemble: dtypes {dtypes}: needs floating point, and int64 or int32 for restore")
    batch, num_tokens = restore.shape
    num_places, dim = positions.shape
    num_class = num_places - num_tokens
    if num_class not in (0, 1):
        raise ValueError(f"decoder_assemble: {num_places} positions for {num_tokens} tokens: needs as many, or 1 more")
    fits = len(tokens) == batch and num_class <= tokens.shape[1] <= num_places and tokens.shape[2] == dim
    if not fits or mask_token.shape != (dim,):
        raise ValueError(
            f"decoder_assemble: tokens {tuple(tokens.shape)} and mask_token {tuple(mask_token.shape)} do not fit restore "
            f"{tuple(restore.shape)} and positions {tuple(positions.shape)}: needs [B, C+K, D], [D], [B, N], [C+N, D]"
        )
