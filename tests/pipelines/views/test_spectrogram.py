import numpy as np
import pytest
import torch
import torchaudio
from nvidia.dali import fn, pipeline_def, types

from xkd.pipelines.config import AudioConfig
from xkd.pipelines.views.spectrogram import log_mel


def dali_log_mel(waveforms: np.ndarray, audio: AudioConfig) -> np.ndarray:
    @pipeline_def(batch_size=len(waveforms), num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph():
        return log_mel(fn.external_source(name="waveform", dtype=types.FLOAT, ndim=1), audio)

    pipeline = graph()
    pipeline.feed_input("waveform", waveforms)
    return np.array(pipeline.run()[0].as_tensor())


def torchaudio_log_mel(waveforms: np.ndarray, audio: AudioConfig) -> np.ndarray:
    mel = torchaudio.transforms.MelSpectrogram(
        sample_rate=audio.sample_rate,
        n_fft=audio.n_fft,
        hop_length=audio.hop,
        f_min=audio.low_hz,
        f_max=audio.high_hz,
        n_mels=audio.num_mels,
        mel_scale="slaney",
        norm="slaney",
    )
    return ((torch.log(mel(torch.from_numpy(waveforms)) + 1.19e-7) - audio.mean) / audio.std).numpy()


@pytest.mark.parametrize("audio", [AudioConfig(), AudioConfig(hop=286), AudioConfig(num_mels=40, low_hz=50, high_hz=7000)])
def test_log_mel_is_torchaudio_s(audio):
    time = np.arange(32000) / 16000
    noise = np.random.default_rng(0).normal(size=32000)
    waveforms = np.stack([0.1 * noise, 0.5 * np.sin(2 * np.pi * 440 * time), np.cumsum(noise) / 300, 0 * time]).astype(np.float32)
    ours, theirs = dali_log_mel(waveforms, audio), torchaudio_log_mel(waveforms, audio)
    assert ours.shape == theirs.shape == (4, audio.num_mels, audio.steps(32000))
    assert np.abs(ours - theirs).max() < 1e-3
