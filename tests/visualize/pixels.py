"""What a drawn figure looks like, for tests of pictures."""

import numpy as np

from xkd.visualize.sheet import pixels


def colours(figure) -> np.ndarray:
    """The pixels of a figure [N, 3] in 0..1."""
    return pixels(figure).reshape(-1, 3) / 255


def share_of(figure, colour, tolerance=0.02) -> float:
    """The share of a figure's pixels that have a colour."""
    return (np.abs(colours(figure) - np.asarray(colour)).max(axis=1) < tolerance).mean()
