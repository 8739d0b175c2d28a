"""From frames and sound to the views that encoders were trained on, as the preset "eval" of the data path makes them.

All of it is torch and torchaudio on the CPU; tests hold it to the DALI graph. Shapes: C clips, T frames, H rows, W columns, S side,
F mel bands, N steps.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from xkd.pipelines.config import LOG_FLOOR, AudioConfig, DataConfig

PCM_SCALE = 1 / 32768


def clip_starts(seconds: Sequence[Fraction], clips: int, data: DataConfig) -> list[int]:
    """First audio samples of clips, spread evenly over what streams of these lengths cover together; of one, the middle."""
    rate = data.audio.sample_rate
    spare = max(0, min(int(length * rate) for length in seconds) - data.clip_samples)
    if clips == 1:
        return [spare // 2]
    return torch.linspace(0, spare, clips, dtype=torch.float64).long().tolist()


def video_views(frames_THW3: Tensor, fps: Fraction, starts: Sequence[int], data: DataConfig) -> Tensor:
    """Normalised views [C, 3, T, S, S] of clips that start at these audio samples; a video that is too short starts again.

    `frames_THW3` is uint8 RGB, `fps` of them a second. A view's frames are the last that had begun at each moment.
    """
    step = fps / Fraction(data.video.fps).limit_denominator(1001)
    firsts = [start * fps / data.audio.sample_rate for start in starts]
    numbers = [int(first + step * frame) % len(frames_THW3) for first in firsts for frame in range(data.num_frames)]
    used, order = torch.tensor(numbers).unique(return_inverse=True)
    pixels_T3SS = _square(frames_THW3[used].permute(0, 3, 1, 2).float(), data)[order]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.video.mean, data.video.std))
    return ((pixels_T3SS / 255 - mean) / std).unflatten(0, (len(starts), -1)).transpose(1, 2).contiguous()


def audio_views(waveform: Tensor, starts: Sequence[int], data: DataConfig) -> Tensor:
    """Normalised log-mel spectrograms [C, 1, F, N] of clips that start at these samples, with silence past the end.

    `waveform` is mono, float in [-1, 1] or int16, at `data.audio.sample_rate`.
    """
    heard = waveform * PCM_SCALE if waveform.dtype == torch.int16 else waveform.float()
    longest = max(starts) + data.clip_samples
    heard = pad(heard, (0, max(0, longest - len(heard))))
    clips = torch.stack([heard[start : start + data.clip_samples] for start in starts])
    return ((torch.log(mel_spectrogram(data.audio)(clips) + LOG_FLOOR) - data.audio.mean) / data.audio.std).unsqueeze(1)


def _square(pixels_T3HW: Tensor, data: DataConfig) -> Tensor:
    """The largest centred square, as large as the views; levels are whole numbers, as in training."""
    height, width = pixels_T3HW.shape[2:]
    size = data.video.global_view.size
    if data.crop_from == "resized":
        scale = size / min(height, width)
        pixels_T3HW = _resized(pixels_T3HW, (round(height * scale), round(width * scale)))
        height, width = pixels_T3HW.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return _resized(pixels_T3HW[..., top : top + side, left : left + side], (size, size))


def _resized(pixels_T3HW: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(pixels_T3HW, size, mode="bilinear", align_corners=False, antialias=True).round().clamp(0, 255)


@cache
def mel_spectrogram(audio: AudioConfig):
    """Waveforms [..., samples] to mel power spectrograms [..., F, N]."""
    from torchaudio.transforms import MelSpectrogram  # an encoder of pictures does without

    return MelSpectrogram(
        sample_rate=audio.sample_rate,
        n_fft=audio.n_fft,
        hop_length=audio.hop,
        f_min=audio.low_hz,
        f_max=audio.high_hz,
        n_mels=audio.num_mels,
        mel_scale="slaney",
        norm="slaney",
    )
