"""Tokenizers: a clip's patches become tokens with learned positions.

Shapes: B samples, C channels, T frames, H rows, W columns, N tokens, K chosen ones, X class tokens (0 or 1), P values a patch,
D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd.kernels.patch_gather import patch_gather, patch_scatter
from xkd.model.config import Modality
from xkd.model.geometry import Grid, as_grid, token_grid

# The released sampling scale of interpolated positions is (new + 0.1) / old, not new / old; released weights expect it.
SCALE_OFFSET = 0.1


class Tokenizer(nn.Module):
    """Embeds the patches of a clip (a video [B, C, T, H, W] or a spectrogram [B, 1, H, W]) and adds positions and a class token.

    Positions are learned for the grid of `shape`; a view with another grid gets them interpolated.
    """

    def __init__(self, shape: tuple[int, ...], patch: tuple[int, ...], dim: int, cls_token: bool, view: str):
        super().__init__()
        self.modality: Modality = "video" if len(shape) == 4 else "audio"
        self.channels = shape[0]
        self.grid = token_grid(shape, patch, view)
        self.patch = as_grid(patch)
        self.num_tokens = math.prod(self.grid)
        self.num_class = int(cls_token)
        self.projection = nn.Linear(math.prod(patch) * shape[0], dim)
        self.positions = nn.Parameter(torch.empty(1, self.num_class + self.num_tokens, dim))
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim)) if cls_token else None

    def forward(self, clip: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """Tokens [B, X+K, D] of the chosen patches, or of all; patches that are not chosen are never read.

        Raises ValueError where the clip is no such clip, or cannot be cut into patches.
        """
        positions_ND = self.positions_of(clip)
        tokens_BKD = self.projection(patch_gather(volume(clip), keep_BK, self.patch, dtype=self._product_dtype(clip)))
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

    def grid_of(self, clip: Tensor) -> Grid:
        """The clip's tokens along (time, rows, columns); raises ValueError as `forward` does."""
        ndim, sides = (5, "T, H, W") if self.modality == "video" else (4, "H, W")
        if clip.ndim != ndim or clip.shape[1] != self.channels:
            raise ValueError(f"clip: the shape {tuple(clip.shape)} of this {self.modality} is not [B, {self.channels}, {sides}]")
        if not clip.is_floating_point():
            raise ValueError(f"clip: this {self.modality} is {clip.dtype}, not floating point: normalise it as in training")
        return token_grid(tuple(volume(clip).shape[1:]), self.patch, "clip")

    def positions_of(self, clip: Tensor) -> Tensor:
        """Positions [N, D] of the clip's patches, without the class token's."""
        grid, positions_ND = self.grid_of(clip), self.positions[0, self.num_class :]
        resample = interpolate_trilinear if self.modality == "video" else interpolate_bicubic
        return positions_ND if grid == self.grid else resample(positions_ND, self.grid, grid)

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


def interpolate_trilinear(positions_ND: Tensor, old: Grid, new: Grid) -> Tensor:
    """A video's positions on another grid."""
    return _interpolate(positions_ND.T.unflatten(1, old), old, new, "trilinear")


def interpolate_bicubic(positions_ND: Tensor, old: Grid, new: Grid) -> Tensor:
    """A spectrogram's positions on another grid, along its time; raises ValueError where its rows change."""
    if old[1] != new[1]:
        raise ValueError(f"a spectrogram of {new[1]} rows of tokens meets positions for {old[1]}: the mel bands must match")
    return _interpolate(positions_ND.T.unflatten(1, old[1:]), old[1:], new[1:], "bicubic")


def _interpolate(positions: Tensor, old: tuple[int, ...], new: tuple[int, ...], mode: str) -> Tensor:
    """Positions [D, *old] as [N, D] on `new`.

    The sampling scale along a side that changes is (new + 0.1) / old; a side that does not change is left alone (said explicitly,
    since torch's own devices disagree).
    """
    scale = tuple(1.0 if n == o else (n + SCALE_OFFSET) / o for n, o in zip(new, old, strict=True))
    resized = F.interpolate(positions[None], scale_factor=scale, mode=mode, align_corners=False)[0]
    assert resized.shape[1:] == new, (resized.shape, new)
    return resized.flatten(1).T
