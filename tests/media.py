"""Tiny real media files with known content, written through PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def gray(level):
    """A picture function: one gray level, given as a number or as a function of time."""
    return lambda time: np.full(3, level(time) if callable(level) else level)


def flash(at, seconds=0.25):
    """Black, but white for a while from `at` on."""
    return gray(lambda time: 255 if at <= time < at + seconds else 0)


def click(at, seconds=0.25):
    """Silence, but a loud 1 kHz tone for a while from `at` on."""
    return lambda times: np.where((times >= at) & (times < at + seconds), 0.8 * np.sin(2 * np.pi * 1000 * times), 0.0)


def tone(hertz, amplitude=0.5):
    return lambda times: amplitude * np.sin(2 * np.pi * hertz * times)


def moving_bar(hue, speed=0.5):
    """A bright vertical bar that moves to the right over a coloured ground, `hue` an (r, g, b)."""

    def draw(time, height, width):
        picture = np.tile(np.asarray(hue, np.uint8), (height, width, 1))
        left = int((speed * time % 1) * width)
        picture[:, left : left + width // 8] = 255
        return picture

    return draw


def write_clip(
    path,
    *,
    picture=gray(128),  # noqa: B008 (a constant function)
    sound=tone(440),  # noqa: B008
    seconds=2.0,
    fps=8,
    height=128,
    width=128,
    pixel_format="yuv420p",
    video_codec="libx264",
    audio_codec="aac",
    sample_rate=16000,
    channels=1,
    video_start=0.0,
    audio_start=0.0,
    frame_times=None,
):
    """Write a file; its container follows from the suffix.

    `picture` is drawn at each frame's time since the start of the pictures: `picture(time)` gives a colour, `picture(time, height,
    width)` an image; None leaves the stream out. `sound(times)` likewise. The starts delay a whole stream on the file's clock.
    `frame_times` (seconds) in place of `fps` makes a variable frame rate.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        streams = []
        if picture is not None:
            stream = container.add_stream(video_codec, rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
            stream.codec_context.thread_count = 1
            if frame_times is not None:
                stream.codec_context.time_base = Fraction(1, 48000)
            times = np.arange(round(seconds * fps)) / fps if frame_times is None else frame_times
            streams.append((stream, _pictures(picture, times, video_start, height, width)))
        if sound is not None:
            stream = container.add_stream(audio_codec, rate=sample_rate, layout="mono" if channels == 1 else "stereo")
            streams.append((stream, _sounds(sound, seconds, audio_start, sample_rate, channels)))
        for stream, frames in streams:
            for frame in frames:
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def _pictures(picture, times, start, height, width):
    for time in times:
        image = picture(time, height, width) if picture.__code__.co_argcount == 3 else picture(time)
        frame = av.VideoFrame.from_ndarray(np.broadcast_to(image, (height, width, 3)).astype(np.uint8), format="rgb24")
        frame.pts, frame.time_base = round((time + start) * 48000), Fraction(1, 48000)
        yield frame


def _sounds(sound, seconds, start, sample_rate, channels):
    samples = np.clip(sound(np.arange(round(seconds * sample_rate)) / sample_rate), -1, 1)
    pcm = np.repeat((samples * 32767).astype(np.int16), channels)
    for begin in range(0, len(samples), 1024):
        part = pcm[begin * channels : (begin + 1024) * channels]
        frame = av.AudioFrame.from_ndarray(part[None], format="s16", layout="mono" if channels == 1 else "stereo")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, round(start * sample_rate) + begin, Fraction(1, sample_rate)
        yield frame
