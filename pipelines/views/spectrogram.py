"""Log-mel spectrograms in the DALI graph; F mel bands, S steps."""

import numpy as np
from nvidia.dali import fn, math
from nvidia.dali.data_node import DataNode

from xkd.pipelines.config import LOG_FLOOR, AudioConfig


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
