"""Encodes a clip as an mp4 file with H.264 video and AAC sound, the same bytes each time."""

from fractions import Fraction

import av
import numpy as np

BITEXACT = {"flags": "+bitexact"}
X264 = {"preset": "veryfast", "threads": "1", **BITEXACT}
AAC = {"aac_coder": "fast", **BITEXACT}


def write_mp4(path, frames: np.ndarray, fps: int, sound: np.ndarray, sample_rate: int) -> None:
    """Writes frames [T, H, W, 3] uint8 and mono sound [S] float32 to `path`; one thread, no dates, no version strings."""
    with av.open(str(path), "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=fps, options=X264)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=sample_rate, layout="mono", options=AAC)
        audio.bit_rate = 96_000
        for packet in (*_encode(video, _pictures(frames)), *_encode(audio, [_samples(sound, sample_rate)])):
            container.mux(packet)


def _encode(stream, frames):
    for frame in (*frames, None):
        yield from stream.encode(frame)


def _pictures(frames):
    for number, pixels in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts = number
        yield picture


def _samples(sound, sample_rate):
    samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
    samples.sample_rate, samples.time_base, samples.pts = sample_rate, Fraction(1, sample_rate), 0
    return samples
