"""Cuts chosen patches out of a clip, reading nothing else of it.

Shapes: B samples, C channels, T frames, H and W pixels, N patches a clip, K chosen ones, P values a patch.
"""

import torch
from torch import Tensor


def patch_gather(clip_BCTHW: Tensor, ids_BK: Tensor | None, patch: tuple[int, int, int]) -> Tensor:
    """The patches `ids_BK` of a clip, as rows of values: [B, K, P] with P = pt * ph * pw * C.

        out[b, k, (a, i, j, c)] = clip[b, c, t * pt + a, h * ph + i, w * pw + j],   ids[b, k] = (t * nh + h) * nw + w

    Patches are numbered (t h w), their values (pt ph pw c). A spectrogram is a clip of one frame and one channel. Without ids:
    all N patches in order. The sides of the clip must be multiples of the patch's.
    """
    blocks = _blocks(clip_BCTHW, patch)
    batch, nt, nh, nw = blocks.shape[:4]
    if ids_BK is None:
        return blocks.reshape(batch, nt * nh * nw, -1)
    rows_B1 = torch.arange(batch, device=clip_BCTHW.device)[:, None]
    return blocks[rows_B1, ids_BK // (nh * nw), ids_BK // nw % nh, ids_BK % nw].flatten(2)


def patch_scatter(patches_BNP: Tensor, shape: tuple[int, int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """The clip [B, C, T, H, W] with shape (C, T, H, W) whose patches, all N in order, are `patches_BNP`."""
    clip_BCTHW = patches_BNP.new_empty(len(patches_BNP), *shape)
    blocks = _blocks(clip_BCTHW, patch)
    blocks.copy_(patches_BNP.unflatten(1, blocks.shape[1:4]).unflatten(-1, blocks.shape[4:]))
    return clip_BCTHW


def _blocks(clip_BCTHW: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """A view [B, nt, nh, nw, pt, ph, pw, C] of the clip; nothing is copied."""
    assert all(side % p == 0 for side, p in zip(clip_BCTHW.shape[2:], patch, strict=True)), (clip_BCTHW.shape, patch)
    pt, ph, pw = patch
    return clip_BCTHW.unfold(2, pt, pt).unfold(3, ph, ph).unfold(4, pw, pw).permute(0, 2, 3, 4, 5, 6, 7, 1)
