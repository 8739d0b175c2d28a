"""Colour jitter, greying and normalisation of a view as one affine map of RGB: composed in numpy, applied by torch.

Each step is affine: contrast is about mid-grey, saturation and hue scale and turn the chroma in YIQ, and nothing is clamped. So a
view needs one pass over its pixels, and uint8 leaves the graph.
"""

from itertools import permutations

import numpy as np
import torch

from xkd.pipelines.config import VideoConfig, VideoView
from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.views.upload import upload

COLOUR_UNIFORMS = 6
MID_GREY = 128
LUMA = (0.299, 0.587, 0.114)
RGB_TO_YIQ = np.array([LUMA, (0.596, -0.274, -0.321), (0.211, -0.523, 0.311)])  # as DALI's color_twist has it
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)
ORDERS = tuple(permutations(range(4)))


def affine(matrix, offset=(0, 0, 0)) -> np.ndarray:
    """x -> matrix @ x + offset as a 4 x 4 matrix, so that maps compose by `@`, the last one leftmost."""
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = matrix, offset
    return whole


def brightness(factor: float) -> np.ndarray:
    return affine(factor * np.eye(3))


def contrast(factor: float) -> np.ndarray:
    return affine(factor * np.eye(3), [(1 - factor) * MID_GREY] * 3)


def saturation(factor: float) -> np.ndarray:
    return _in_yiq(factor * np.eye(2))


def hue(degrees: float) -> np.ndarray:
    turn = np.deg2rad(degrees)
    return _in_yiq([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])


def grey() -> np.ndarray:
    return affine([LUMA] * 3)


def normalisation(video: VideoConfig) -> np.ndarray:
    """From levels in [0, 255] to normalised values."""
    std = np.array(video.std)
    return affine(np.diag(1 / (255 * std)), -np.array(video.mean) / std)


def _in_yiq(chroma) -> np.ndarray:
    in_yiq = np.eye(3)
    in_yiq[1:, 1:] = chroma
    return affine(YIQ_TO_RGB @ in_yiq @ RGB_TO_YIQ)


def draw_colour(uniform: np.ndarray, view: VideoView) -> np.ndarray:
    """The map of a view's jitter, its four steps in a drawn order, and greying; takes COLOUR_UNIFORMS uniforms."""
    spread = 2 * uniform[:4] - 1
    steps = (
        brightness(1 + view.brightness * spread[0]),
        contrast(1 + view.contrast * spread[1]),
        saturation(1 + view.saturation * spread[2]),
        hue(360 * view.hue * spread[3]),
    )
    drawn = np.eye(4)
    for step in ORDERS[int(len(ORDERS) * uniform[4])]:
        drawn = steps[step] @ drawn
    return grey() @ drawn if uniform[5] < view.gray else drawn


def recolour(pixels_RTHWC: torch.Tensor, maps_R34: np.ndarray, buffers: Buffers) -> torch.Tensor:
    """Map uint8 views by their own affine maps: float32 [R, C, T, H, W]. One by one, so none depends on those beside it."""
    rows, frames, height, width, channels = pixels_RTHWC.shape
    maps_R34 = upload(maps_R34, pixels_RTHWC.device)
    result = buffers.empty((rows, channels, frames * height * width), pixels_RTHWC.device)
    planes = torch.empty_like(result[0])
    for row in range(rows):
        planes.copy_(pixels_RTHWC[row].reshape(-1, channels).T)  # planar, which the product takes best
        torch.addmm(maps_R34[row, :, 3:], maps_R34[row, :, :3], planes, out=result[row])
    return result.view(rows, channels, frames, height, width)
