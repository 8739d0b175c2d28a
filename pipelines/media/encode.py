"""Encodes clean frames to an mp4 and clean sound to a wav or flac, all in memory and the same bytes each time."""

import io
import wave
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

WAV_HEADER_BYTES = 44


@dataclass(frozen=True)
class Codec:
    """An FFmpeg encoder, its fixed options, those that set its constant quality, and the level of quality that profiles take.

    The levels look about alike (docs/data.md has the bytes and times). All frames are limited range, of MJPEG too.
    """

    encoder: str
    options: Mapping[str, str]
    quality_options: tuple[str, ...]
    quality: int


CODECS = {
    "vp9": Codec(
        encoder="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8", "b": "0", "lag-in-frames": "0", "auto-alt-ref": "0"},
        quality_options=("crf",),
        quality=32,
    ),
    "h264": Codec(
        encoder="libx264",
        options={"preset": "veryfast", "bf": "0", "sc_threshold": "0", "a53cc": "0", "x264-params": "open-gop=0:sync-lookahead=0"},
        quality_options=("crf",),
        quality=25,
    ),
    "hevc": Codec(
        encoder="libx265",
        options={
            "preset": "veryfast",
            "x265-params": "bframes=0:open-gop=0:scenecut=0:keyint={gop}:min-keyint={gop}"
            ":pools=none:frame-threads=1:log-level=none",
        },
        quality_options=("crf",),
        quality=27,
    ),
    "mjpeg": Codec(
        encoder="mjpeg", options={"strict": "unofficial", "huffman": "optimal"}, quality_options=("qmin", "qmax"), quality=4
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
        stream.options = encoder_options(CODECS[codec], gop=gop, quality=quality)
        for frame in frames:
            frame.pts, frame.time_base = count, Fraction(1, fps)
            frame.pict_type = av.video.frame.PictureType.NONE  # else the encoder repeats the source's key frames
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return buffer.getvalue(), count


def encoder_options(codec: Codec, *, gop: int, quality: int) -> dict[str, str]:
    """FFmpeg's options of an encoder, by name: one thread, a key frame every `gop` frames."""
    fixed = {name: value.format(gop=gop) for name, value in codec.options.items()}
    return {**fixed, **dict.fromkeys(codec.quality_options, str(quality)), "g": str(gop), "keyint_min": str(gop), "threads": "1"}


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


def encode_flac(samples: np.ndarray, sample_rate: int) -> bytes:
    """A mono 16-bit flac file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=sample_rate, layout="mono", format="s16", options={"flags": "+bitexact"})
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


def decode_flac(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a mono 16-bit flac file, and their rate."""
    with av.open(io.BytesIO(data), format="flac") as container:
        stream = container.streams.audio[0]
        assert (stream.channels, stream.format.name) == (1, "s16"), stream
        stream.codec_context.thread_count = 1
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)]), stream.rate


@dataclass(frozen=True)
class AudioCodec:
    """How sound is put into a file of its own, with which suffix, and got back exactly."""

    extension: str
    encode: Callable[[np.ndarray, int], bytes]
    decode: Callable[[bytes], tuple[np.ndarray, int]]


AUDIO_CODECS = {
    "pcm16": AudioCodec("wav", encode_wav, decode_wav),
    "flac": AudioCodec("flac", encode_flac, decode_flac),
}
