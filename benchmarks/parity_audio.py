"""Parity of the audio front end: the spectrogram of the data pipeline's graph, and its random resize crop at given boxes."""

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from torch import Tensor

from xkd.benchmarks.parity_rows import Comparison, Golden, absolute
from xkd.pipelines.config import AudioConfig
from xkd.pipelines.views.augment_spectrogram import change_spectrograms
from xkd.pipelines.views.spectrogram import log_mel

SPECTROGRAM = 1e-3
LOCAL = slice(12000, 28000)  # the local view's samples of the waveform
BOXES = "rrc_params_i_j_h_w"


def compare_audio(golden: Golden) -> Comparison:
    waveform = golden.real("wav")
    views = {"global": waveform, "local": waveform[LOCAL]}
    audio = _audio(golden, len(waveform))
    rows, spectrograms = [], {}
    for view in (view for view in views if f"{view}_reflect_norm" in golden):
        spectrograms[view] = spectrogram(views[view], audio)
        key = f"{view}_reflect_norm"
        rows.append(absolute(key, spectrograms[view][None], golden[key], SPECTROGRAM))
    if BOXES in golden:
        for index, box in enumerate(golden[BOXES]):
            cropped = change_spectrograms(spectrograms["local"][None], {"box": box.numpy().astype(np.int32)[None]})
            rows.append(absolute(f"rrc{index}", cropped, golden[f"rrc{index}"], SPECTROGRAM))
    return Comparison(rows, f"{audio.num_mels} mel bands of {audio.n_fft} samples, hop {audio.hop}")


def _audio(golden: Golden, num_samples: int) -> AudioConfig:
    """The front end whose spectrogram has the file's size; the method's hop where that gives it."""
    bands, steps = golden["global_reflect_norm"].shape[-2:]
    filters = golden.arrays.get("mel_filters")
    window = {} if filters is None else {"n_fft": 2 * (filters.shape[-1] - 1)}
    audio = AudioConfig(num_mels=bands, **window)
    return audio if audio.steps(num_samples) == steps else audio.model_copy(update={"hop": num_samples // (steps - 1)})


def spectrogram(waveform: Tensor, audio: AudioConfig) -> Tensor:
    """Normalised log-mel spectrogram [F, S] of a waveform [samples], by the graph's operators."""

    @pipeline_def(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph():
        return log_mel(fn.external_source(name="waveform", dtype=types.FLOAT, ndim=1), audio)

    pipeline = graph()
    pipeline.feed_input("waveform", [waveform.numpy()])
    return torch.from_numpy(np.array(pipeline.run()[0].at(0)))
