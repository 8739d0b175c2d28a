import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from nvidia.dali import fn, pipeline_def, types

from xkd.pipelines.config import AudioConfig
from xkd.pipelines.draws import canvas_steps
from xkd.pipelines.spectrogram import cubic_matrices, log_mel, resize_crop


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


@given(seed=st.integers(0, 2**32), bands=st.sampled_from([8, 13]), steps=st.sampled_from([12, 17]))
@settings(max_examples=40)
def test_resize_crop_is_torch_s_bicubic_interpolation_of_the_crop(seed, bands, steps):
    rng = np.random.default_rng(seed)
    canvas, spectrogram = canvas_steps(steps), torch.from_numpy(rng.normal(size=(bands, steps)).astype(np.float32))
    height, width = rng.integers(1, bands + 1), rng.integers(1, canvas + 1)
    y, x = rng.integers(0, bands - height + 1), rng.integers(0, canvas - width + 1)
    padded = torch.zeros(bands, canvas)
    margin = (canvas - steps) // 2
    padded[:, margin : margin + steps] = spectrogram
    crop = padded[None, None, y : y + height, x : x + width]
    expected = torch.nn.functional.interpolate(crop, (bands, steps), mode="bicubic", align_corners=True)[0]
    found = resize_crop(spectrogram[None, None], np.array([[[y, x, height, width]]], np.int32))[0]
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_whole_stretch_is_left_as_it_is():
    matrix = cubic_matrices(np.array([0]), np.array([9]), 9, 9)
    assert np.allclose(matrix, np.eye(9), atol=1e-6)


def test_every_example_and_view_has_its_own_crop():
    spectrograms = torch.rand(3, 2, 8, 12)
    boxes = np.array([[[k, 2 * j, 5, 9] for j in range(2)] for k in range(3)], np.int32)
    together = resize_crop(spectrograms, boxes)
    for example in range(3):
        for view in range(2):
            alone = resize_crop(spectrograms[example : example + 1, view : view + 1], boxes[example : example + 1, view : view + 1])
            assert torch.allclose(together[example, view], alone[0, 0], atol=1e-6)
