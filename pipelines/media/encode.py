"""Encodes clean frames to an mp4 and clean sound to a wav, both in memory and the same bytes each time."""

import io
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

WAV_HEADER_BYTES = 44


@dataclass(frozen=True)
class Codec:
    """An FFmpeg encoder, its fixed options, and the name of the one that sets a constant quality."""

    encoder: str
    options: Mapping[str, str]
    quality_option: str


CODECS = {
    "vp9": Codec(
        encoder="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8", "b": "0", "lag-in-frames": "0", "auto-alt-ref": "0"},
        quality_option="crf",
    ),
}


def encode_video(
    frames: Iterable[av.VideoFrame], *, codec: str, fps: int, gop: int, quality: int, height: int, width: int
) -> tuple[bytes, int]:
    """The mp4 file of the frames, one every 1 / fps seconds, with a key frame every `gop`, and the number of frames."""
    buffer, count = io.BytesIO(), 0
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(CODECS[codec].encoder, rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        groups = {"g": str(gop), "keyint_min": str(gop)}
        stream.options = {**CODECS[codec].options, CODECS[codec].quality_option: str(quality), **groups, "threads": "1"}
        for frame in frames:
            frame.pts, frame.time_base = count, Fraction(1, fps)
            frame.pict_type = av.video.frame.PictureType.NONE  # else the encoder repeats the source's key frames
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return buffer.getvalue(), count


def decoded_shape(video: bytes) -> tuple[int, int, int]:
    """(frames, height, width) of an encoded video, found by decoding all of it."""
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        shapes = [(frame.height, frame.width) for frame in container.decode(stream)]
    assert len(set(shapes)) == 1, shapes
    return len(shapes), *shapes[0]


def encode_wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """A mono PCM16 wav file; the PCM data begins at WAV_HEADER_BYTES."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2", copy=False).tobytes())
    return buffer.getvalue()


def decode_wav(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a mono PCM16 wav file, and their rate."""
    with wave.open(io.BytesIO(data), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2), file.getparams()
        return np.frombuffer(file.readframes(file.getnframes()), "<i2"), file.getframerate()
