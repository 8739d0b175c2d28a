"""Log-mel spectrograms in the DALI graph, and the random resize crop of spectrograms after it.

Shapes: B examples, L views, F mel bands, S steps.
"""

import numpy as np
import torch
from nvidia.dali import fn, math
from nvidia.dali.data_node import DataNode

from xkd.pipelines.config import AudioConfig
from xkd.pipelines.draws import canvas_steps

LOG_FLOOR = 1.19e-7
CUBIC = -0.75  # the coefficient of torch's bicubic interpolation


def periodic_hann(length: int) -> list[float]:
    """The Hann window of torch and librosa; DALI's default is the symmetric one, which is .08 off in the log domain."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).tolist()


def log_mel(waveform: DataNode, audio: AudioConfig) -> DataNode:
    """Normalised log-mel spectrogram [F, S] of a float waveform [samples] in [-1, 1]."""
    power = fn.spectrogram(
        waveform,
        nfft=audio.n_fft,
        window_length=audio.n_fft,
        window_step=audio.hop,
        window_fn=periodic_hann(audio.n_fft),
        power=2,
        reflect_padding=True,
    )
    mel = fn.mel_filter_bank(
        power,
        sample_rate=audio.sample_rate,
        nfilter=audio.num_mels,
        freq_low=audio.low_hz,
        freq_high=audio.high_hz,
        mel_formula="slaney",
        normalize=True,
    )
    return (math.log(mel + LOG_FLOOR) - audio.mean) * (1 / audio.std)


def resize_crop(spectrograms_BLFS: torch.Tensor, boxes_BL4: np.ndarray) -> torch.Tensor:
    """Crop a box (y, x, height, width) from the zero canvas around each spectrogram and resize it back, bicubic, corners aligned.

    Interpolation is linear in each axis, so a crop is two small matrices a spectrogram: rows @ spectrogram @ columns.
    """
    bands, steps = spectrograms_BLFS.shape[-2:]
    canvas = canvas_steps(steps)
    margin = (canvas - steps) // 2
    rows_BLFF = cubic_matrices(boxes_BL4[..., 0], boxes_BL4[..., 2], bands, bands)
    columns_BLSS = cubic_matrices(boxes_BL4[..., 1], boxes_BL4[..., 3], canvas, steps)[..., margin : margin + steps]
    rows_BLFF, columns_BLSS = (torch.from_numpy(m).to(spectrograms_BLFS.device) for m in (rows_BLFF, columns_BLSS))
    return rows_BLFF @ spectrograms_BLFS @ columns_BLSS.mT


def cubic_matrices(starts: np.ndarray, lengths: np.ndarray, size_in: int, size_out: int) -> np.ndarray:
    """Matrices [..., size_out, size_in], float32, that resize `lengths` elements from `starts` on to `size_out`.

    As torch's bicubic interpolation with align_corners=True: neighbours beyond the stretch are its outermost elements.
    """
    place = np.arange(size_out) / max(size_out - 1, 1) * (lengths[..., None] - 1)
    left = np.floor(place).astype(int)
    taps = np.arange(-1, 3)
    weights = _cubic_kernel(np.abs((place - left)[..., None] - taps))
    sources = starts[..., None, None] + np.clip(left[..., None] + taps, 0, lengths[..., None, None] - 1)
    return (weights[..., None] * (sources[..., None] == np.arange(size_in))).sum(-2).astype(np.float32)


def _cubic_kernel(distance: np.ndarray) -> np.ndarray:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
