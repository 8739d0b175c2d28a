"""Draws the picture of a clip: a scan that drifts, turns and grows over moving clutter, sometimes half hidden."""

from functools import cache

import numpy as np

from xkd.pipelines.avdigits.scans import SIDE
from xkd.pipelines.avdigits.settings import Settings

# Shapes: T frames, H = W pixels a side, N texels a side of a texture.
TEXELS = 256  # so many that the nearest texel is as good as interpolating
MARGIN = 0.1  # a texture reaches this far past the scan, as a share of its side


def draw_picture(rng: np.random.Generator, settings: Settings, scan, others, *, occluded: bool, visible) -> np.ndarray:
    """Frames [T, H, W, 3] uint8 of `scan` over clutter that holds pieces of the scans `others`; both are [8, 8] in [0, 1].

    `visible` [T] in [0, 1] is the share of the digit's contrast in each frame.
    """
    contrast = rng.uniform(*settings.contrast)
    paper, ink, cover = (grey + _colour_offset(rng, settings) for grey in (0.5 - contrast / 2, 0.5 + contrast / 2, 0.5))
    ground, ground_path = paper + _clutter(rng, settings), _clutter_path(rng, settings)
    pieces = [(settings.clutter * _texture(_piece(rng, other)), _motion(rng, settings)) for other in others]
    digit, motion = _texture(scan), _motion(rng, settings)
    occluder = _occluder(rng, settings, digit)

    size = settings.size
    frames = np.empty((settings.num_frames, size, size, 3), np.uint8)
    for t in range(settings.num_frames):  # frame by frame, because a frame fits into the cache
        top, left = ground_path[t]
        frame = ground[top : top + size, left : left + size].copy()
        for piece, path in pieces:
            frame += piece.take(_texels(path[t], size))[..., None]
        texels = _texels(motion[t], size)
        frame += np.float32(visible[t]) * digit.take(texels)[..., None] * (ink - frame)
        if occluded:
            frame[occluder.take(texels)] = cover
        frame += settings.pixel_noise * rng.standard_normal((size, size, 1), dtype=np.float32)
        frames[t] = np.clip(255 * frame + 0.5, 0, 255)
    return frames


def _colour_offset(rng, settings) -> np.ndarray:
    return rng.uniform(-settings.colour_offset, settings.colour_offset, 3).astype(np.float32)


def _motion(rng, settings) -> np.ndarray:
    """Centre x and y (pixels), side (pixels) and angle (radians) of a scan in each frame [T, 4], changing steadily."""
    side = rng.uniform(*settings.digit_size)
    centre = 0.5 + rng.uniform(-settings.place, settings.place, 2) * (1 - side) / 2
    travel = rng.uniform(-settings.drift, settings.drift, 2)
    angle = np.deg2rad(rng.uniform(-settings.turn_start, settings.turn_start))
    turn = np.deg2rad(rng.uniform(-settings.turn_drift, settings.turn_drift))
    growth = rng.uniform(-settings.zoom, settings.zoom)
    progress = np.linspace(0, 1, settings.num_frames)
    x, y = (settings.size * (centre[axis] + travel[axis] * (progress - 0.5)) for axis in (0, 1))
    return np.stack([x, y, settings.size * side * (1 + growth * progress), angle + turn * progress], axis=1)


def _texels(pose, size) -> np.ndarray:
    """Flat index [H, W] of the texel under each pixel for one row of `_motion`; pixels off the texture get its empty rim."""
    x, y, side, angle = pose
    scale = TEXELS / (side * (1 + 2 * MARGIN))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    across, down = np.arange(size) + 0.5 - x, np.arange(size) + 0.5 - y
    return TEXELS * _on_texture(-sin * across, cos * down) + _on_texture(cos * across, sin * down)


def _on_texture(columns, rows) -> np.ndarray:
    coordinates = (columns + TEXELS / 2).astype(np.float32) + rows.astype(np.float32)[:, None]
    return np.clip(coordinates, 0, TEXELS - 1, out=coordinates).astype(np.int32)


def _texture(scan) -> np.ndarray:
    """The scan [8, 8] interpolated to texels [N, N], empty in the margin."""
    smooth = _interpolation(SIDE, TEXELS, MARGIN)
    texture = np.clip(smooth @ scan @ smooth.T, 0, 1)
    texture[[0, -1]] = 0
    texture[:, [0, -1]] = 0
    return texture


@cache
def _interpolation(cells: int, samples: int, margin: float) -> np.ndarray:
    """Matrix [samples, cells] of Keys' cubic kernel; the samples reach `margin` past the cells, where there is nothing."""
    at = (-margin + (1 + 2 * margin) * (np.arange(samples) + 0.5) / samples) * cells - 0.5
    d = np.abs(at[:, None] - np.arange(cells))
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0)).astype(np.float32)


def _piece(rng, scan) -> np.ndarray:
    """A window of half the scan's side, the rest empty."""
    top, left = rng.integers(0, SIDE // 2 + 1, 2)
    window = (slice(top, top + SIDE // 2), slice(left, left + SIDE // 2))
    piece = np.zeros_like(scan)
    piece[window] = scan[window]
    return piece


def _clutter(rng, settings) -> np.ndarray:
    """Smooth coloured noise on a canvas [1.5 H, 1.5 W, 3]."""
    cells = settings.clutter_cells * 3 // 2 + 2
    smooth = _interpolation(cells, _canvas(settings), -1 / cells)
    noise = rng.uniform(-settings.clutter, settings.clutter, (3, cells, cells)).astype(np.float32)
    return np.ascontiguousarray((smooth @ noise @ smooth.T).transpose(1, 2, 0))


def _clutter_path(rng, settings) -> np.ndarray:
    """Top and left of the frame on the canvas over time [T, 2]."""
    start, end = rng.uniform(0, _canvas(settings) - settings.size, (2, 2))
    return np.rint(np.linspace(start, end, settings.num_frames)).astype(int)


def _canvas(settings) -> int:
    return settings.size * 3 // 2


def _occluder(rng, settings, texture) -> np.ndarray:
    """Mask [N, N] of a board that covers the asked share of the ink from one of the four sides."""
    share = rng.uniform(*settings.occluded_ink)
    quarter_turns = rng.integers(4)
    ink = np.rot90(texture, quarter_turns).sum(axis=1).cumsum()
    rim = round(TEXELS * MARGIN / 2)
    board = np.zeros((TEXELS, TEXELS), bool)
    board[rim : np.searchsorted(ink, share * ink[-1]) + 1, rim:-rim] = True
    return np.ascontiguousarray(np.rot90(board, -quarter_turns))
