"""Tokenizers: a clip's patches become tokens with learned positions.

Shapes: B samples, C channels, T frames, H rows, W columns, N tokens, K chosen ones, X class tokens (0 or 1), P values a patch,
D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd.kernels.patch_gather import patch_gather, patch_scatter
from xkd.model.geometry import Grid, as_grid, token_grid

# The released sampling scale of interpolated positions is (new + 0.1) / old, not new / old; released weights expect it.
SCALE_OFFSET = 0.1


class Tokenizer(nn.Module):
    """Embeds the patches of a clip (a video [B, C, T, H, W] or a spectrogram [B, 1, H, W]) and adds positions and a class token.

    Positions are learned for the grid of `shape`; a view with another grid gets them interpolated.
    """

    def __init__(self, shape: tuple[int, ...], patch: tuple[int, ...], dim: int, cls_token: bool, view: str):
        super().__init__()
        self.grid = token_grid(shape, patch, view)
        self.patch = as_grid(patch)
        self.num_tokens = math.prod(self.grid)
        self.num_class = int(cls_token)
        self.projection = nn.Linear(math.prod(patch) * shape[0], dim)
        self.positions = nn.Parameter(torch.empty(1, self.num_class + self.num_tokens, dim))
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim)) if cls_token else None

    def forward(self, clip: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """Tokens [B, X+K, D] of the chosen patches, or of all; patches that are not chosen are never read.

        Raises ValueError where the clip cannot be cut into patches.
        """
        clip_BCTHW = volume(clip)
        positions_ND = self.positions_of(clip_BCTHW)
        tokens_BKD = self.projection(patch_gather(clip_BCTHW, keep_BK, self.patch, dtype=self._product_dtype(clip)))
        tokens_BKD = tokens_BKD + (positions_ND if keep_BK is None else F.embedding(keep_BK, positions_ND))
        if self.cls_token is None:
            return tokens_BKD
        cls_11D = self.cls_token + self.positions[:, :1]
        return torch.cat([cls_11D.expand(len(clip), -1, -1).to(tokens_BKD.dtype), tokens_BKD], dim=1)

    def _product_dtype(self, clip: Tensor) -> torch.dtype:
        """What the projection multiplies in: patches that are gathered in it are written once, in the size that is read."""
        if not clip.is_meta and torch.is_autocast_enabled(clip.device.type):  # autocast does not know the meta device
            return torch.get_autocast_dtype(clip.device.type)
        return self.projection.weight.dtype

    def positions_of(self, clip_BCTHW: Tensor) -> Tensor:
        """Positions [N, D] of the clip's patches, without the class token's."""
        grid = token_grid(tuple(clip_BCTHW.shape[1:]), self.patch, "clip")
        positions_ND = self.positions[0, self.num_class :]
        return positions_ND if grid == self.grid else interpolate_positions(positions_ND, self.grid, grid)

    def patch_means(self, clip: Tensor) -> Tensor:
        """The clip with every patch replaced by its own mean, as the baseline that a reconstruction has to beat."""
        patches_BNP = patch_gather(volume(clip), None, self.patch)
        return self.unpatchify(patches_BNP.mean(-1, keepdim=True).expand_as(patches_BNP), like=clip)

    def unpatchify(self, patches_BNP: Tensor, like: Tensor) -> Tensor:
        """The clip, shaped like `like`, whose patches are these."""
        return patch_scatter(patches_BNP, volume(like).shape[1:], self.patch).view_as(like)


def volume(clip: Tensor) -> Tensor:
    """A clip as [B, C, T, H, W]; a spectrogram becomes a video of one frame."""
    return clip.unsqueeze(2) if clip.ndim == 4 else clip


def interpolate_positions(positions_ND: Tensor, old: Grid, new: Grid) -> Tensor:
    """Positions on another grid: trilinear where there is time, else bicubic along the columns (a spectrogram's time).

    The sampling scale along a side that changes is (new + 0.1) / old; a side that does not change is left alone (said explicitly,
    since torch's own devices disagree). Raises ValueError where a spectrogram's rows change.
    """
    scale = tuple(1.0 if n == o else (n + SCALE_OFFSET) / o for n, o in zip(new, old, strict=True))
    positions_1DTHW = positions_ND.T.unflatten(1, old)[None]
    if old[0] != 1 or new[0] != 1:
        resized = F.interpolate(positions_1DTHW, scale_factor=scale, mode="trilinear", align_corners=False)
    elif old[1] == new[1]:
        resized = F.interpolate(positions_1DTHW[:, :, 0], scale_factor=scale[1:], mode="bicubic", align_corners=False)[:, :, None]
    else:
        raise ValueError(f"a spectrogram of {new[1]} rows of tokens meets positions for {old[1]}: the mel bands must match")
    assert resized.shape[2:] == new, (resized.shape, new)
    return resized[0].flatten(1).T
