"""Decodes the pictures and the sound of a media file to the clean form: constant rate, fixed size, one common clock.

Time 0 of the common clock is the first picture, or the begin of the time range where one is asked for. Sound from before it is
dropped, sound that starts later follows silence. Nothing is held in memory but the frames in work and the resampled sound.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from xkd.pipelines.media.clock import sample_and_hold
from xkd.pipelines.media.container import (
    MAX_PIXELS,
    MAX_SECONDS,
    MediaError,
    MissingStream,
    Openable,
    Stretch,
    check_end,
    choose_stream,
    decode_from,
    open_media,
    stretch_of,
)
from xkd.pipelines.media.upright import Timed, turns_sideways, upright

# Beyond this, pixels are not square or the file is no film; the stored size grows with it.
MAX_ASPECT = 8

# A break in the time stamps of a sound that is more than rounding: lost packets leave silence, not a shift.
GAP_SECONDS = Fraction(1, 10)


@dataclass(frozen=True)
class Pictures:
    """The frames of a video, each yuv420p of (height, width), to be consumed once. `start_seconds` is on the file's own clock."""

    start_seconds: Fraction
    height: int
    width: int
    frames: Iterator[av.VideoFrame]
    source: dict


@contextmanager
def open_pictures(
    source: Openable, *, fps: int, short_side: int, multiple: int, time_range: tuple[float, float] | None = None
) -> Iterator[Pictures]:
    """Open a file's video as it is to be shown (upright, square pixels), resampled to `fps`, its short side `short_side`."""
    with open_media(source) as container:
        stretch = stretch_of(container, time_range)
        stream = choose_stream(container.streams.video, "pictures")
        _check_size(stream.codec_context.height, stream.codec_context.width)
        timed = _timed_pictures(container, stream, stretch)
        first, second = next(timed, None), next(timed, None)
        if second is None:
            raise MediaError(f"its video holds {'no' if first is None else 'only one'} frame{stretch.in_words}")
        start, frame = first[0] if stretch.begin is None else max(first[0], stretch.begin), first[2]
        height, width = clean_size(*shown_size(frame, stream.sample_aspect_ratio), short_side, multiple)
        shown = ((begin - start, end - start, frame) for begin, end, frame in upright(chain([first, second], timed)))
        steps = _limited(sample_and_hold(shown, Fraction(fps)), stretch, start, fps)
        rate = None if stream.average_rate is None else float(stream.average_rate)
        described = {"codec": stream.codec_context.name, "height": frame.height, "width": frame.width, "fps": rate}
        yield Pictures(start, height, width, _clean(steps, height, width), described)


def read_sound(
    source: Openable,
    *,
    sample_rate: int,
    start_seconds: Fraction | None = None,
    max_samples: int | None = None,
    time_range: tuple[float, float] | None = None,
) -> tuple[np.ndarray, dict]:
    """A file's sound as mono int16, from `start_seconds` of its clock on, and a description of the source.

    Without them the sound begins where it, or the time range, begins; and more than MAX_SECONDS are an error.
    """
    with open_media(source) as container:
        stretch = stretch_of(container, time_range)
        stream = choose_stream(container.streams.audio, "sound")
        described = {"codec": stream.codec_context.name, "sample_rate": stream.rate, "channels": stream.channels}
        timed = _timed_sounds(container, stream, stretch)
        first = next(timed, None)
        if first is None:
            raise MediaError(f"its audio holds no sound{stretch.in_words}")
        if start_seconds is None:
            start_seconds = first[0] if stretch.begin is None else stretch.begin
        limit = int(stretch.max_seconds * sample_rate) if max_samples is None else max_samples
        sound = _place(resampled(chain([first], timed), sample_rate), start_seconds, sample_rate, limit + 1)
        if len(sound) > limit and max_samples is None and stretch.begin is None:
            raise MediaError(f"its sound lasts more than {MAX_SECONDS} s; a clip may not")
        if not len(sound) or first[0] - start_seconds >= Fraction(limit, sample_rate):
            raise MissingStream("its sound and its pictures do not overlap in time")
        return sound[:limit], described


def clean_size(height: int, width: int, short_side: int, multiple: int) -> tuple[int, int]:
    """The stored size: the short side exact, the long side to the nearest multiple (NVDEC keeps a decoder for each size)."""
    scale = Fraction(short_side, min(height, width))
    return tuple(max(short_side, round(side * scale / multiple) * multiple) for side in (height, width))


def shown_size(frame: av.VideoFrame, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """The (height, width) in square pixels, upright, that a frame is to be seen in; `pixel_aspect` is a pixel's width / height."""
    height, width = frame.height, max(1, round(frame.width * (pixel_aspect or 1)))
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise MediaError(f"its pictures are {width}x{height}; one side may be at most {MAX_ASPECT} times the other")
    return (width, height) if turns_sideways(frame) else (height, width)


def _timed_pictures(container: av.container.InputContainer, stream, stretch: Stretch) -> Iterator[Timed]:
    """The frames that are to be seen within the stretch, with their begin and end on the file's clock."""
    usual = 1 / stream.average_rate if stream.average_rate else Fraction(1, 25)
    end = Fraction(0)
    for frame in decode_from(container, stream, stretch.begin):
        _check_size(frame.height, frame.width)
        begin = end if frame.pts is None else frame.pts * frame.time_base
        end = begin + (frame.duration * frame.time_base if frame.duration else usual)
        if stretch.end is not None and begin >= stretch.end:
            return
        if stretch.begin is None or end > stretch.begin:
            if frame.is_corrupt:
                raise MediaError(f"its video at {float(begin):.2f} s is damaged")
            yield begin, end, frame
    check_end(container, stream, end)


def _timed_sounds(container: av.container.InputContainer, stream, stretch: Stretch) -> Iterator[tuple[Fraction, av.AudioFrame]]:
    """The frames that are to be heard within the stretch, with their begin on the file's clock."""
    end = Fraction(0)
    for frame in decode_from(container, stream, stretch.begin):
        begin = end if frame.pts is None else frame.pts * frame.time_base
        end = begin + Fraction(frame.samples, frame.sample_rate)
        if stretch.end is not None and begin >= stretch.end:
            return
        if stretch.begin is None or end > stretch.begin:
            yield begin, frame
    check_end(container, stream, end)


def resampled(timed: Iterator[tuple[Fraction, av.AudioFrame]], sample_rate: int) -> Iterator[tuple[Fraction | None, np.ndarray]]:
    """Mono int16 pieces, each with its begin where it does not follow the one before; the source's form may change midway."""
    resampler, form, expected, begin_of_run = None, None, None, None
    for begin, frame in timed:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or now != form or abs(begin - expected) > GAP_SECONDS:
            if resampler is not None:
                yield from _samples(resampler, None, begin_of_run)
            resampler, form, begin_of_run = av.AudioResampler(format="s16", layout="mono", rate=sample_rate), now, begin
        expected = begin + Fraction(frame.samples, frame.sample_rate)
        frame.pts = None  # the resampler would fill and cut by them; the places are given by us
        for piece in _samples(resampler, frame, begin_of_run):
            yield piece
            begin_of_run = None
    if resampler is not None:
        yield from _samples(resampler, None, begin_of_run)


def _samples(resampler: av.AudioResampler, frame: av.AudioFrame | None, begin: Fraction | None):
    try:
        resampled_frames = resampler.resample(frame)
    except av.ArgumentError:  # where it is not known which channel is where
        raise MediaError(f"its sound of {frame.layout.nb_channels} channels cannot be mixed to one") from None
    for out in resampled_frames:
        yield begin, out.to_ndarray()[0]
        begin = None


def _place(pieces: Iterator[tuple[Fraction | None, np.ndarray]], start: Fraction, sample_rate: int, max_samples: int) -> np.ndarray:
    """Join the pieces so that `start` is sample 0: what lies before is cut, gaps are silent, what overlaps is left out."""
    parts, end, length = [], 0, 0
    for begin, samples in pieces:
        if begin is not None:
            end = round((begin - start) * sample_rate)
        silence = min(max(0, end - length), max_samples - length)
        kept = samples[max(0, length - end) : max(0, max_samples - end)]
        parts += [np.zeros(silence, np.int16), kept] if len(kept) else []
        end += len(samples)
        length += (silence + len(kept)) if len(kept) else 0
        if end >= max_samples:
            break
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise MediaError(f"its pictures are {width}x{height}, more than {MAX_PIXELS} pixels")


def _limited(frames: Iterator[av.VideoFrame], stretch: Stretch, start: Fraction, fps: int) -> Iterator[av.VideoFrame]:
    """No more frames than the stretch has; an error where a whole file, whatever it claims, has more than a clip may."""
    if stretch.end is not None:
        yield from islice(frames, max(1, round((stretch.end - start) * fps)))
        return
    yield from islice(frames, MAX_SECONDS * fps)
    if next(frames, None) is not None:
        raise MediaError(f"its video lasts more than {MAX_SECONDS} s; a clip may not")


def _clean(frames: Iterator[av.VideoFrame], height: int, width: int) -> Iterator[av.VideoFrame]:
    """Scale frames to yuv420p in BT.601 limited range, which is what DALI's decoder takes every video for."""
    last, clean, reformatter = None, None, VideoReformatter()
    for frame in frames:
        if frame is not last:
            last, clean = frame, _reformat(reformatter, frame, height, width)
        yield clean


def _reformat(reformatter: VideoReformatter, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
    return reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="yuv420p",
        interpolation=Interpolation.BICUBIC,
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )
