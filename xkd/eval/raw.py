"""Features without a net: what a linear classifier reads off the clips themselves, as a reference."""

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

GRID = 16


def mean_picture(clip: Tensor) -> Tensor:
    """Time-averaged picture of video clips [B, 3, T, H, W], averaged down to 16 x 16: [B, 768]."""
    return adaptive_avg_pool2d(clip.mean(dim=2), GRID).flatten(1)


def mean_spectrum(clip: Tensor) -> Tensor:
    """Time-averaged log-mel spectrum of audio clips [B, 1, F, S]: [B, F]."""
    return clip.mean(dim=(1, 3))


RAW = {"video": mean_picture, "audio": mean_spectrum}
