"""Decodes the pictures and the sound of a media file to the clean form: constant rate, fixed size, one common clock.

Time 0 of the common clock is the first picture. Sound from before it is dropped, sound that starts later follows silence.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from xkd.pipelines.media.clock import sample_and_hold

# The containers that are read. FFmpeg knows many more, but takes a text for video (ansi art) and opens what a play list names.
FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "wav", "flac", "mp3", "aac")


class MediaError(ValueError):
    """A file that cannot become a sample; the message says why."""


@dataclass(frozen=True)
class Pictures:
    """The frames of a video, each yuv420p of (height, width), to be consumed once. `start_seconds` is on the file's own clock."""

    start_seconds: Fraction
    height: int
    width: int
    frames: Iterator[av.VideoFrame]
    source: dict


@contextmanager
def open_pictures(path: Path, *, fps: int, short_side: int, multiple: int) -> Iterator[Pictures]:
    """Open the first video stream of `path`, resampled to `fps` and scaled so that its short side is `short_side`."""
    with _open(path) as container:
        stream = _single_threaded(_first(container.streams.video, "pictures"))
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is None:
            raise MediaError("the video stream holds no frame")
        height, width = clean_size(first.height, first.width, short_side, multiple)
        start = _begin(first)
        timed = ((*_span(frame, start, stream.average_rate), frame) for frame in chain([first], decoded))
        rate = None if stream.average_rate is None else float(stream.average_rate)
        source = {"codec": stream.codec_context.name, "height": first.height, "width": first.width, "fps": rate}
        yield Pictures(start, height, width, _clean(sample_and_hold(timed, Fraction(fps)), height, width), source)


def read_sound(path: Path, *, sample_rate: int, start_seconds: Fraction, max_samples: int) -> tuple[np.ndarray, dict]:
    """The first audio stream as mono int16, from `start_seconds` of the file's clock on, and a description of the source."""
    with _open(path) as container:
        stream = _single_threaded(_first(container.streams.audio, "sound"))
        source = {"codec": stream.codec_context.name, "sample_rate": stream.rate, "channels": stream.channels}
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is None:
            raise MediaError("the audio stream holds no sound")
        begin = round((_begin(first) - start_seconds) * sample_rate)
        resampler = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
        resampled = chain.from_iterable(resampler.resample(frame) for frame in chain([first], decoded, [None]))
        sound = _place(resampled, begin, max_samples)
        if begin >= max_samples or len(sound) == 0:
            raise MediaError("its sound and its pictures do not overlap in time")
        return sound, source


def clean_size(height: int, width: int, short_side: int, multiple: int) -> tuple[int, int]:
    """The stored size: the short side exact, the long side to the nearest multiple (NVDEC keeps a decoder for each size)."""
    scale = Fraction(short_side, min(height, width))
    return tuple(max(short_side, round(side * scale / multiple) * multiple) for side in (height, width))


def _open(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path), options={"format_whitelist": ",".join(FORMATS)})
    except av.ArgumentError:
        raise MediaError(f"its format is not one of {', '.join(FORMATS)}") from None


def _first(streams, what: str):
    if not streams:
        raise MediaError(f"it has no {what}")
    return streams[0]


def _single_threaded(stream):
    stream.codec_context.thread_count = 1
    return stream


def _begin(frame) -> Fraction:
    if frame.pts is None:
        raise MediaError("a frame has no time stamp")
    return frame.pts * frame.time_base


def _span(frame: av.VideoFrame, start: Fraction, average_rate: Fraction | None) -> tuple[Fraction, Fraction]:
    begin = _begin(frame) - start
    if frame.duration:
        return begin, begin + frame.duration * frame.time_base
    return begin, begin + (1 / average_rate if average_rate else 0)


def _clean(frames: Iterator[av.VideoFrame], height: int, width: int) -> Iterator[av.VideoFrame]:
    """Scale frames to yuv420p in BT.601 limited range, which is what DALI's decoder takes every video for."""
    last, clean = None, None
    for frame in frames:
        if frame is not last:
            last, clean = frame, _reformat(frame, height, width)
        yield clean


def _reformat(frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
    return frame.reformat(
        width=width,
        height=height,
        format="yuv420p",
        interpolation=Interpolation.BICUBIC,
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )


def _place(frames: Iterator[av.AudioFrame], begin: int, max_samples: int) -> np.ndarray:
    """Concatenate the frames so that the first one starts at sample `begin` (negative: cut, positive: silence first)."""
    parts, end = [np.zeros(min(max(begin, 0), max_samples), np.int16)], begin
    for frame in frames:
        samples = frame.to_ndarray()[0]
        parts.append(samples[max(0, -end) : max(0, max_samples - end)])
        end += len(samples)
        if end >= max_samples:
            break
    return np.concatenate(parts)
