"""Crops of a frame, as boxes (y0, x0, y1, x1) in shares of it, so that they hold at any resolution; not rounded to pixels."""

import numpy as np

CROP_TRIES = 10  # as torchvision's RandomResizedCrop
CROP_UNIFORMS = 2 * CROP_TRIES + 2

Box = tuple[float, float, float, float]


def random_resized_crop(uniform: np.ndarray, scale, ratio, aspect: float) -> Box:
    """A crop covering a drawn share of a frame of width / height `aspect`; takes CROP_UNIFORMS uniforms.

    The first of CROP_TRIES draws that fits in the frame; else the largest centred crop of an allowed ratio.
    """
    area = scale[0] + (scale[1] - scale[0]) * uniform[:CROP_TRIES]
    low, high = np.log(ratio)
    ratios = np.exp(low + (high - low) * uniform[CROP_TRIES : 2 * CROP_TRIES])
    heights, widths = np.sqrt(area * aspect / ratios), np.sqrt(area * ratios / aspect)
    fits = (heights <= 1) & (widths <= 1)
    if not fits.any():
        return placed_crop(float(np.clip(aspect, *ratio)), aspect)
    first = fits.argmax()
    y, x = uniform[-2:] * (1 - heights[first], 1 - widths[first])
    return y, x, y + heights[first], x + widths[first]


def placed_crop(ratio: float, aspect: float, place: float = 0.5) -> Box:
    """The largest crop of width / height `ratio` in a frame of width / height `aspect`, from its left or top (0) to its end (1)."""
    height, width = min(1.0, aspect / ratio), min(1.0, ratio / aspect)
    y, x = place * (1 - height), place * (1 - width)
    return y, x, y + height, x + width


def crop_parameters(box: Box, flip: bool = False) -> dict[str, np.ndarray]:
    """A crop for the graph's resize; a flip swaps left and right."""
    y0, x0, y1, x1 = box
    left, right = (x1, x0) if flip else (x0, x1)
    return {"roi_start": np.array([y0, left], np.float32), "roi_end": np.array([y1, right], np.float32)}
