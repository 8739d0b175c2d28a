"""Converts one item to a sample in the clean form, and checks it by decoding it again."""

import errno
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

from xkd.pipelines.convert.sources.item import Item
from xkd.pipelines.convert.workers import map_in_order
from xkd.pipelines.media.container import MediaError, MissingStream
from xkd.pipelines.media.decode import open_pictures, read_sound
from xkd.pipelines.media.encode import AUDIO_CODECS, decoded_shape, encode_video
from xkd.pipelines.shards.manifest import AudioForm, Profile, VideoForm

# The shortest clips of the known datasets last 0.3 s; a shorter sound is a broken file.
MIN_SOUND_SECONDS = 0.25

# The reasons for not reading a file that lie in the file itself; any other, such as a network that is down, may pass. EINVAL, or
# none, is the reason for not going to a place that no file has, to which damaged bytes may lead.
OF_THE_FILE = {
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    None,
}


class UnreadableSource(ValueError):
    """A file that could not be read for a reason that may pass: neither a sample nor a failure."""


@dataclass(frozen=True)
class Streams:
    """Which streams a dataset's samples have."""

    video: bool
    audio: bool
    audio_may_miss: bool = False


STREAMS = {
    "both": Streams(video=True, audio=True),
    "video": Streams(video=True, audio=False),
    "audio": Streams(video=False, audio=True),
    "video, sound optional": Streams(video=True, audio=True, audio_may_miss=True),
}


@dataclass(frozen=True)
class Converted:
    """A sample's members, and what they decode to: an absent stream is None, and its numbers are 0."""

    key: str
    labels: tuple[str, ...]
    video: bytes | None
    audio: bytes | None
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


def convert(item: Item, profile: Profile, streams: str = "both", absent: frozenset[Path] = frozenset()) -> Converted | Failure:
    """Convert an item to the streams of STREAMS[streams]; a bad file, or one of the `absent`, is a Failure, not an exception.

    Raises UnreadableSource or MemoryError where the fault may lie outside of the file.
    """
    try:
        return _convert(item, profile, STREAMS[streams])
    except MemoryError:
        raise
    except MediaError as error:
        return _failure(item, error, str(error))
    except av.FFmpegError as error:  # what FFmpeg makes of the bytes, EIO included; that they cannot be read comes as an OSError
        return _failure(item, error, f"it cannot be read: {error.strerror}")
    except OSError as error:
        if error.errno in OF_THE_FILE or (error.errno == errno.ENOENT and item.location.path in absent):
            return _failure(item, error, f"it cannot be read: {error.strerror or error}")
        gone = "it was there when the run began, and is gone now: " if error.errno == errno.ENOENT else ""
        raise UnreadableSource(f"{item.location} cannot be read ({gone}{error.strerror})") from error
    except Exception as error:  # noqa: BLE001 (PyAV raises errors of many kinds on streams that it did not expect)
        return _failure(item, error, f"it cannot be converted: {error or 'no reason given'}")


def convert_all(items: Sequence[Item], profile: Profile, streams: str, workers: int) -> Iterator[Converted | Failure]:
    """Convert items in worker processes, in their order; one that kills its worker or never ends is a Failure too.

    Raises UnreadableSource for what may pass, so that it does not end as a failure for good.
    """
    function = partial(convert, profile=profile, streams=streams, absent=find_absent(items))
    return map_in_order(function, items, workers, lost=lost)


def find_absent(items: Sequence[Item]) -> frozenset[Path]:
    """The links among the items' files that lead nowhere now, before the run, and so are not expected to be there in it."""
    return frozenset(path for path in {item.location.path for item in items} if _leads_nowhere(path))


def lost(item: Item, reason: str) -> Failure:
    """The failure of an item that took its worker with it."""
    return Failure(item.name, reason, "LostWorker")


def _leads_nowhere(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:  # for another reason, which the conversion finds out
        pass
    return False


def _failure(item: Item, error: Exception, reason: str) -> Failure:
    return Failure(item.name, " ".join(reason.split()), type(error).__name__)


def _convert(item: Item, profile: Profile, streams: Streams) -> Converted:
    video, shape, picture_source, start = None, (0, 0, 0), None, None
    if streams.video:
        video, shape, picture_source, start = _convert_pictures(item, profile.video)
    audio, sound, sound_source = None, np.zeros(0, np.int16), None
    if streams.audio:
        limit = shape[0] * profile.audio.sample_rate // profile.video.fps if streams.video else None
        try:
            audio, sound, sound_source = _convert_sound(item, profile.audio, start, limit)
        except MissingStream:
            if not streams.audio_may_miss:
                raise
    rate = profile.audio.sample_rate if audio is not None else 0
    info = {"name": item.name, "labels": item.labels, "split": item.split}
    if item.roles:
        info["roles"] = item.roles
    if item.time_range is not None:
        info["time_range"] = item.time_range
    (frames, height, width), fps = shape, profile.video.fps
    if video is not None:
        info["video"] = {"frames": frames, "height": height, "width": width, "fps": fps, "seconds": frames / fps}
    if audio is not None:
        info["audio"] = {"samples": len(sound), "sample_rate": rate, "seconds": len(sound) / rate}
    info["source"] = {kind: found for kind, found in (("video", picture_source), ("audio", sound_source)) if found is not None}
    return Converted(item.key, item.labels, video, audio, json.dumps(info).encode(), *shape, len(sound), rate)


def _convert_pictures(item: Item, form: VideoForm) -> tuple[bytes, tuple[int, int, int], dict, Fraction]:
    """The encoded video, its (frames, height, width), what it was made of, and when it starts on the file's clock."""
    size = {"fps": form.fps, "short_side": form.short_side, "multiple": form.multiple}
    with open_pictures(item.location, **size, time_range=item.time_range) as pictures:
        height, width = pictures.height, pictures.width
        settings = {"codec": form.codec, "fps": form.fps, "gop": form.gop, "quality": form.quality}
        video, frames = encode_video(pictures.frames, **settings, height=height, width=width)
    found = decoded_shape(video)
    if found != (frames, height, width):
        raise MediaError(f"its encoded video decodes to (frames, height, width) {found} instead of {(frames, height, width)}")
    return video, found, pictures.source, pictures.start_seconds


def _convert_sound(item: Item, form: AudioForm, start: Fraction | None, max_samples: int | None) -> tuple[bytes, np.ndarray, dict]:
    """The encoded sound, its samples, and what it was made of."""
    where = {"start_seconds": start, "max_samples": max_samples, "time_range": item.time_range}
    sound, source = read_sound(item.location, sample_rate=form.sample_rate, **where)
    if len(sound) < MIN_SOUND_SECONDS * form.sample_rate:
        raise MediaError(f"its sound lasts {len(sound) / form.sample_rate:.2f} s, less than {MIN_SOUND_SECONDS} s")
    codec = AUDIO_CODECS[form.codec]
    audio = codec.encode(sound, form.sample_rate)
    samples, rate = codec.decode(audio)
    if rate != form.sample_rate or not np.array_equal(samples, sound):
        raise MediaError("its encoded sound decodes to something else")
    return audio, sound, source
