"""Draws stored samples: a strip of frames, a spectrogram, class and key."""

from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.figure import Figure
from matplotlib.mlab import specgram

from xkd.pipelines.inspect.stored import audio_member, decoded_frames, read_member, video_member
from xkd.pipelines.media.encode import AUDIO_CODECS
from xkd.pipelines.shards.index import Sample, ShardSet
from xkd.pipelines.shards.manifest import Profile

DPI = 100
STRIP_FRAMES = 8  # of a clip, at most, side by side
GAP_PIXELS = 2
WINDOW = 1024  # samples of a spectrogram's column
BANDS = 80
RANGE_DB = 60
WIDTHS = {"both": [8, 2.5], "video": [8, 0.8], "audio": [0.8, 8]}  # of frames and spectrogram, by the set's streams
LABEL_LENGTH = 50


def contact_sheet(shards: ShardSet, out: Path, samples: int = 12) -> None:
    """The first samples of a shard folder: frames over the whole length, spectrogram, class, key.

    Raises ValueError if `samples` is not at least 1, or there is none.
    """
    if samples < 1:
        raise ValueError(f"samples: {samples} is not at least 1")
    if not len(shards):
        raise ValueError(f"{shards.folder}: holds no sample to draw")
    samples, manifest = min(samples, len(shards)), shards.manifest
    columns = min(samples, 2)
    rows = -(-samples // columns)
    figure = Figure(figsize=(7.5 * columns, 0.5 + 0.93 * rows), layout="constrained")
    widths = WIDTHS.get(manifest.streams, WIDTHS["both"])
    axes = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=widths * columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (left, right) in zip(range(samples), axes.reshape(-1, 2), strict=False):
        sample = shards.sample(index)
        names = ", ".join(shards.classes[label] for label in sample.labels)
        title = f"class {shorten(names, LABEL_LENGTH, placeholder=' ...')}   {sample.key}"
        left.set_title(title, fontsize=8, loc="left", pad=2, parse_math=False)
        _show_frames(left, sample, manifest.settings.profile)
        _show_sound(right, sample, manifest.settings.profile)
    figure.suptitle(
        f"{manifest.name}/{manifest.split}: the first {samples} of {len(shards)} samples. Frames and spectrogram (mel scale to"
        f" {manifest.audio.sample_rate // 2000} kHz) of the whole length",
        fontsize=10 if columns == 2 else 7,
        parse_math=False,
    )
    save(figure, out)


def strip(frames: np.ndarray) -> np.ndarray:
    """Up to STRIP_FRAMES frames of [T, H, W, 3] in 0..1, evenly spaced in time, side by side."""
    framed = np.pad(frames[chosen(len(frames))], ((0, 0), (0, 0), (0, GAP_PIXELS), (0, 0)), constant_values=1.0)
    return np.concatenate(list(framed), axis=1)


def chosen(num_frames: int) -> np.ndarray:
    """Which frames a strip shows."""
    return np.linspace(0, num_frames - 1, min(STRIP_FRAMES, num_frames)).round().astype(int)


def save(figure: Figure, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=DPI)


def mel_levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Highest level [BANDS, S] in bands of equal width on the mel scale, of a sound [samples] int16; in dB below the loudest."""
    padded = np.pad(samples, (0, max(0, 2 * WINDOW - len(samples)))) / 2**15
    power, hertz, _ = specgram(padded, NFFT=WINDOW, Fs=rate, noverlap=WINDOW // 2)
    edges = 700 * (np.geomspace(1, 1 + rate / 2 / 700, BANDS) - 1)
    first_bins = np.searchsorted(hertz, edges).clip(max=len(hertz) - 1)
    level = 10 * np.log10(np.maximum.reduceat(power, first_bins) + 1e-12)
    return np.maximum(level - level.max(), -RANGE_DB)


def _show_frames(axis, sample: Sample, profile: Profile) -> None:
    member = video_member(sample.key, sample.video, profile)
    if member is None:
        axis.text(0, 0.5, "(no video)", fontsize=8, va="center")
        return
    shown = set(chosen(sample.video.frames).tolist())
    frames = enumerate(decoded_frames(read_member(sample.shard, member)))
    axis.imshow(strip(np.stack([frame.to_ndarray(format="rgb24") for number, frame in frames if number in shown]) / 255))


def _show_sound(axis, sample: Sample, profile: Profile) -> None:
    member = audio_member(sample.key, sample.audio, profile)
    if member is None:
        axis.text(0, 0.5, "(no sound)", fontsize=8, va="center")
        return
    samples, rate = AUDIO_CODECS[profile.audio.codec].decode(read_member(sample.shard, member))
    axis.imshow(mel_levels(samples, rate), origin="lower", aspect="auto", cmap="magma", vmin=-RANGE_DB, vmax=0)
