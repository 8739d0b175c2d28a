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
    gop=None,
    video_options=None,
    pixel_aspect=None,
    rotation=0,
    flipped=False,
    interlaced=False,
    layout=None,
    other_sounds=(),
    default_sound=0,
    container_options=None,
):
    """Write a file; its container follows from the suffix.

    `picture` is drawn at each frame's time since the start of the pictures: `picture(time)` gives a colour, `picture(time, height,
    width)` an image; None leaves the stream out. `sound(times)` likewise. The starts delay a whole stream on the file's clock.
    `frame_times` (seconds) in place of `fps` makes a variable frame rate. `pixel_aspect` is a pixel's width / height, `rotation`
    the degrees (counterclockwise) by which a player turns the pictures before, if `flipped`, it mirrors them. `interlaced` draws
    every second line half a frame later. `other_sounds` become further audio tracks, of which `default_sound` is marked.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container_options or {}) as container:
        streams = []
        if picture is not None:
            stream = container.add_stream(video_codec, rate=Fraction(fps).limit_denominator(1001))
            stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
            stream.codec_context.thread_count = 1
            stream.options = {**({"x264-params": "tff=1"} if interlaced else {}), **(video_options or {})}
            if gop is not None:
                stream.codec_context.gop_size = gop
            if pixel_aspect is not None:
                stream.codec_context.sample_aspect_ratio = pixel_aspect
            if rotation or flipped:
                stream.set_display_rotation(rotation, hflip=flipped)
            if frame_times is not None:
                stream.codec_context.time_base = Fraction(1, 48000)
            times = np.arange(round(seconds * fps)) / fps if frame_times is None else frame_times
            drawn = _interlaced(picture, 0.5 / fps) if interlaced else picture
            streams.append((stream, _pictures(drawn, times, video_start, height, width)))
        layout = layout or ("mono" if channels == 1 else "stereo")
        tracks = [] if sound is None else [sound, *other_sounds]
        for number, track in enumerate(tracks):
            stream = container.add_stream(audio_codec, rate=sample_rate, layout=layout)
            if len(tracks) > 1:
                stream.disposition = av.stream.Disposition.default if number == default_sound else av.stream.Disposition(0)
            streams.append((stream, _sounds(track, seconds, audio_start, sample_rate, layout)))
        for stream, frames in streams:
            for frame in frames:
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def _pictures(picture, times, start, height, width):
    for time in times:
        image = np.broadcast_to(_draw(picture, time, height, width), (height, width, 3)).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts, frame.time_base = round((time + start) * 48000), Fraction(1, 48000)
        yield frame


def _draw(picture, time, height, width):
    return picture(time, height, width) if picture.__code__.co_argcount == 3 else picture(time)


def _interlaced(picture, lag):
    """The picture with the lines 0, 2, ... from a little later (x264 takes the other field for the first)."""

    def draw(time, height, width):
        image = np.array(np.broadcast_to(_draw(picture, time, height, width), (height, width, 3)))
        image[::2] = np.broadcast_to(_draw(picture, time + lag, height, width), (height, width, 3))[::2]
        return image

    return draw


def _sounds(sound, seconds, start, sample_rate, layout):
    """The sound in every channel, or, where it has two dimensions [channels, samples], its own in each."""
    samples = np.clip(sound(np.arange(round(seconds * sample_rate)) / sample_rate), -1, 1)
    channels = av.AudioLayout(layout).nb_channels
    pcm = np.broadcast_to((samples * 32767).astype(np.int16), (channels, samples.shape[-1]))
    for begin in range(0, pcm.shape[1], 1024):
        part = np.ascontiguousarray(pcm[:, begin : begin + 1024].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, round(start * sample_rate) + begin, Fraction(1, sample_rate)
        yield frame


def without_packets(path, target, kind, begin, end):
    """Copy a file but for the packets of one stream, "video" or "audio", between two times."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size and not (packet.stream.type == kind and begin <= packet.pts * packet.time_base < end):
                packet.stream = streams[packet.stream.index]
                container.mux(packet)
    return target
