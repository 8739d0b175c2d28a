"""Random erasing: a rectangle of a normalised view becomes gaussian noise, its own in each pixel, the same in all frames."""

import numpy as np
import torch

from xkd.pipelines.views.upload import upload

ERASE_TRIES = 10
ERASE_RATIO = (0.3, 1 / 0.3)  # height / width of the rectangle
ERASE_UNIFORMS = 1 + 2 * ERASE_TRIES + 2

Rectangle = tuple[int, int, int, int]  # y, x, height, width


def draw_rectangle(uniform: np.ndarray, probability: float, area, size: int) -> Rectangle:
    """The rectangle to erase in a view of `size` x `size`, of no size if none; takes ERASE_UNIFORMS uniforms.

    The first of ERASE_TRIES draws that fits, as torchvision's RandomErasing.
    """
    if uniform[0] >= probability:
        return 0, 0, 0, 0
    shares, ratios = uniform[1:-2].reshape(2, ERASE_TRIES)
    pixels = size**2 * (area[0] + (area[1] - area[0]) * shares)
    low, high = np.log(ERASE_RATIO)
    ratios = np.exp(low + (high - low) * ratios)
    heights, widths = np.rint(np.sqrt(pixels * ratios)).astype(int), np.rint(np.sqrt(pixels / ratios)).astype(int)
    fits = (heights > 0) & (heights < size) & (widths > 0) & (widths < size)
    if not fits.any():
        return 0, 0, 0, 0
    height, width = int(heights[fits.argmax()]), int(widths[fits.argmax()])
    y, x = uniform[-2:] * (size - height + 1, size - width + 1)
    return int(y), int(x), height, width


def gaussian(uniform: np.ndarray) -> np.ndarray:
    """Standard normal numbers by Box and Muller's formula, half as many as uniforms."""
    radius, turn = np.split(uniform, 2)
    return np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * turn)


def erase(views_RCTHW: torch.Tensor, places: list[np.ndarray], noises: list[np.ndarray]) -> None:
    """Write each row's noise [C, h, w] at its place (y, x), in every frame; in place."""
    for view_CTHW, (y, x), noise in zip(views_RCTHW, places, noises, strict=True):
        height, width = noise.shape[1:]
        if height:
            view_CTHW[:, :, y : y + height, x : x + width] = upload(noise, view_CTHW.device)[:, None]
