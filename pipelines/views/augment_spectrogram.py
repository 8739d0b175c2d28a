"""Time warp, random resize crop and masks of spectrograms: drawn in numpy, applied by torch after the graph.

Interpolation is linear in each axis, so a warp and a crop are two small matrices a spectrogram: rows @ spectrogram @ columns.
Shapes: R spectrograms, F mel bands, S steps.
"""

import numpy as np
import torch

from xkd.pipelines.config import AudioView
from xkd.pipelines.views.upload import upload

SOUND_UNIFORMS = 6  # and two for each mask
RESIZE_CROP_RANGE = (0.6, 1.5)  # height and width of the random crop, in shares of the view
RESIZE_CROP_CANVAS = 1.5  # width of the zero canvas around the spectrogram, in shares of the view
CUBIC = -0.75  # the coefficient of torch's bicubic interpolation


def draw_spectrogram(uniform: np.ndarray, view: AudioView, bands: int, steps: int) -> dict[str, np.ndarray]:
    """What changes a spectrogram, int32; takes SOUND_UNIFORMS + 2 * (freq_masks + time_masks) uniforms.

    `box` (y, x, height, width) on the canvas, `warp` (column, where it is moved to), `freq_masks`, `time_masks` [n, (begin, end)].
    """
    drawn = {}
    if view.resize_crop:
        drawn["box"] = draw_box(uniform[:4], bands, steps)
    if view.time_warp:
        drawn["warp"] = draw_warp(uniform[4:6], view.time_warp, steps)
    freq, time = np.split(uniform[SOUND_UNIFORMS:], [2 * view.freq_masks])
    if view.freq_masks:
        drawn["freq_masks"] = draw_masks(freq, view.freq_mask_width, bands)
    if view.time_masks:
        drawn["time_masks"] = draw_masks(time, view.time_mask_width, steps)
    return drawn


def draw_box(uniform: np.ndarray, bands: int, steps: int) -> np.ndarray:
    """Box (y, x, height, width) on the canvas of `canvas_steps(steps)` columns around a spectrogram; takes 4 uniforms."""
    canvas = canvas_steps(steps)
    low, high = RESIZE_CROP_RANGE
    height, width = ((low + (high - low) * uniform[:2]) * (bands, steps)).astype(int)
    height, width = np.clip((height, width), 1, (bands, canvas))
    y, x = (uniform[2:] * (bands - height + 1, canvas - width + 1)).astype(int)
    return np.array([y, x, height, width], np.int32)


def draw_warp(uniform: np.ndarray, reach: int, steps: int) -> np.ndarray:
    """A column at least `reach` from both ends, and the place up to `reach` away that it is moved to; takes 2 uniforms."""
    column = reach + int(uniform[0] * (steps - 2 * reach))
    moved = np.clip(column - reach + int(uniform[1] * (2 * reach + 1)), 1, steps - 1)
    return np.array([max(column, 1), moved], np.int32)


def draw_masks(uniform: np.ndarray, width: int, size: int) -> np.ndarray:
    """Masks [n, (begin, end)] of up to `width` of `size` elements; takes 2 * n uniforms."""
    widths, places = uniform.reshape(2, -1)
    widths = np.floor(widths * (width + 1))
    begin = np.floor(places * (size - widths + 1))
    return np.stack([begin, begin + widths], axis=1).astype(np.int32)


def canvas_steps(steps: int) -> int:
    """Columns of the canvas that a spectrogram's random resize crop is taken from."""
    return int(RESIZE_CROP_CANVAS * steps)


def change_spectrograms(spectrograms_RFS: torch.Tensor, drawn: dict[str, np.ndarray]) -> torch.Tensor:
    """Warp, crop and mask spectrograms as drawn: each array of `draw_spectrogram`, stacked."""
    bands, steps = spectrograms_RFS.shape[1:]
    device = spectrograms_RFS.device
    columns = warp_matrices(drawn["warp"], steps) if "warp" in drawn else None
    if "box" in drawn:
        rows, crop = resize_crop_matrices(drawn["box"], bands, steps)
        columns = crop if columns is None else crop @ columns
        spectrograms_RFS = upload(rows, device) @ spectrograms_RFS
    if columns is not None:
        spectrograms_RFS = spectrograms_RFS @ upload(columns, device).mT
    if "freq_masks" in drawn:
        spectrograms_RFS = spectrograms_RFS * upload(kept(drawn["freq_masks"], bands), device)[:, :, None]
    if "time_masks" in drawn:
        spectrograms_RFS = spectrograms_RFS * upload(kept(drawn["time_masks"], steps), device)[:, None, :]
    return spectrograms_RFS


def kept(masks: np.ndarray, size: int) -> np.ndarray:
    """1 for each of `size` elements that none of the masks [R, n, (begin, end)] covers, else 0: float32 [R, size]."""
    places = np.arange(size)
    masked = (masks[..., :1] <= places) & (places < masks[..., 1:])
    return (~masked.any(axis=1)).astype(np.float32)


def resize_crop_matrices(boxes: np.ndarray, bands: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [R, F, F] and [R, S, S] that resize boxes of the zero canvas to the spectrogram's size, bicubic, corners aligned."""
    y, x, height, width = boxes[..., None].swapaxes(0, 1)
    canvas = canvas_steps(steps)
    margin = (canvas - steps) // 2
    rows = cubic_matrices(aligned(height, bands), y, height, bands)
    return rows, cubic_matrices(aligned(width, steps), x, width, canvas)[..., margin : margin + steps]


def warp_matrices(warps: np.ndarray, steps: int) -> np.ndarray:
    """Matrices [R, S, S] that move a column to another place and resize what is left and right of it, each for itself."""
    column, moved = warps[..., None].swapaxes(0, 1)
    place = np.arange(steps)
    left = place < moved
    place_left = place * (column - 1) / np.maximum(moved - 1, 1)
    place_right = (place - moved) * (steps - column - 1) / np.maximum(steps - moved - 1, 1)
    start, length = np.where(left, 0, column), np.where(left, column, steps - column)
    return cubic_matrices(np.where(left, place_left, place_right), start, length, steps)


def aligned(lengths: np.ndarray, size: int) -> np.ndarray:
    """Where `size` elements lie among `lengths`, corners aligned."""
    return np.arange(size) / max(size - 1, 1) * (lengths - 1)


def cubic_matrices(places: np.ndarray, starts: np.ndarray, lengths: np.ndarray, size_in: int) -> np.ndarray:
    """Matrices [R, size_out, size_in], float32, that interpolate at `places` [R, size_out] within stretches of the input.

    `starts` and `lengths` are those of the stretch that each output is taken from. As torch's bicubic interpolation: neighbours
    beyond the stretch are its outermost elements.
    """
    left = np.floor(places).astype(int)
    matrices = np.zeros((*places.shape, size_in), np.float32)
    row, output = np.indices(places.shape)
    for tap in range(-1, 3):
        source = starts + np.clip(left + tap, 0, lengths - 1)
        matrices[row, output, source] += _cubic_kernel(np.abs(places - left - tap))
    return matrices


def _cubic_kernel(distance: np.ndarray) -> np.ndarray:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
