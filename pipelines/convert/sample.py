"""Converts one item to a sample in the clean form, and checks it by decoding it again."""

import json
from dataclasses import dataclass

import av
import numpy as np

from xkd.pipelines.convert.sources.item import Item
from xkd.pipelines.manifest import Profile
from xkd.pipelines.media.decode import MediaError, open_pictures, read_sound
from xkd.pipelines.media.encode import decode_wav, decoded_shape, encode_video, encode_wav


@dataclass(frozen=True)
class Converted:
    """A sample's three members, and what they decode to."""

    key: str
    labels: tuple[str, ...]
    video: bytes
    audio: bytes
    info: bytes
    frames: int
    height: int
    width: int
    audio_samples: int
    audio_rate: int


@dataclass(frozen=True)
class Failure:
    """An item that could not become a sample: its name, the reason in words, and the class of the exception."""

    name: str
    reason: str
    error: str


def convert(item: Item, profile: Profile) -> Converted | Failure:
    """Convert an item; a bad file is a Failure, not an exception."""
    try:
        return _convert(item, profile)
    except MediaError as error:
        return _failure(item, error, str(error))
    except (av.FFmpegError, OSError) as error:
        return _failure(item, error, f"it cannot be read: {error.strerror}")
    except ValueError as error:  # of PyAV, for streams of a kind that it does not handle
        return _failure(item, error, f"it cannot be converted: {error}")


def _failure(item: Item, error: Exception, reason: str) -> Failure:
    return Failure(item.name, reason, type(error).__name__)


def _convert(item: Item, profile: Profile) -> Converted:
    form = profile.video
    with open_pictures(item.path, fps=form.fps, short_side=form.short_side, multiple=form.multiple) as pictures:
        height, width, start = pictures.height, pictures.width, pictures.start_seconds
        settings = {"codec": form.codec, "fps": form.fps, "gop": form.gop, "quality": form.quality}
        video, frames = encode_video(pictures.frames, **settings, height=height, width=width)
    rate = profile.audio.sample_rate
    sound, sound_source = read_sound(item.path, sample_rate=rate, start_seconds=start, max_samples=frames * rate // form.fps)
    audio = encode_wav(sound, rate)
    _verify(video, (frames, height, width), audio, sound, rate)
    info = {
        "name": item.name,
        "labels": item.labels,
        "split": item.split,
        "video": {"frames": frames, "height": height, "width": width, "fps": form.fps, "seconds": frames / form.fps},
        "audio": {"samples": len(sound), "sample_rate": rate, "seconds": len(sound) / rate},
        "source": {"video": pictures.source, "audio": sound_source},
    }
    return Converted(item.key, item.labels, video, audio, json.dumps(info).encode(), frames, height, width, len(sound), rate)


def _verify(video: bytes, shape: tuple[int, int, int], audio: bytes, sound: np.ndarray, rate: int) -> None:
    found = decoded_shape(video)
    if found != shape:
        raise MediaError(f"its encoded video decodes to (frames, height, width) {found} instead of {shape}")
    samples, found_rate = decode_wav(audio)
    if found_rate != rate or not np.array_equal(samples, sound):
        raise MediaError("its encoded sound decodes to something else")
