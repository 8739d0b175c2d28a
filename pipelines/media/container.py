"""Opens media files that nobody vouches for: which formats are read and up to which size, which stream, which stretch of it."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import av
from av.stream import Disposition

# The containers that are read. FFmpeg knows many more, but takes a text for video (ansi art) and opens what a play list names.
FORMATS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "wav", "flac", "mp3", "aac")

# 4K: a decoder may keep 16 frames, and those of this size take 227 MB of the 500 MB that a worker may need.
MAX_PIXELS = 4096 * 2304

# Twenty minutes: a sample is a clip; it is encoded in memory, and readers fetch a sample whole.
MAX_SECONDS = 1200

# A stream that ends this much sooner than its container says, and by a twentieth of its length, has lost its end.
MISSING_SECONDS = 0.5

# The containers in which a moment is found exactly; the others are read from the start.
SEARCHABLE = {"mov", "matroska", "mpegts"}

# Decoders need a run-up, and a container without an index is searched roughly.
RUN_UP_SECONDS = 2

# What is cut out of a longer file often begins and ends at a key frame, and so is a little longer than asked for.
CUT_SLACK_SECONDS = 1


class MediaError(ValueError):
    """A file that cannot become a sample; the message says why."""


class MissingStream(MediaError):
    """A file without pictures or without sound."""


class Openable(Protocol):
    """A file's bytes, which can be opened again and again (a Location of convert.sources)."""

    path: Path

    def open(self) -> BinaryIO: ...


@dataclass(frozen=True)
class Stretch:
    """The part of a file that becomes the sample, in seconds of the file's own clock; None: the whole file."""

    begin: Fraction | None = None
    end: Fraction | None = None

    @property
    def max_seconds(self) -> Fraction:
        return Fraction(MAX_SECONDS) if self.begin is None else self.end - self.begin

    @property
    def in_words(self) -> str:
        return "" if self.begin is None else f" from {float(self.begin):g} to {float(self.end):g} s"


@contextmanager
def open_media(source: Openable) -> Iterator[av.container.InputContainer]:
    """Open a file whose content, whatever its name, is of one of FORMATS."""
    mode = source.path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe would keep us waiting; a folder cannot be opened and says so
        raise MediaError("it is not a regular file")
    with source.open() as file:
        if not file.read(1):
            raise MediaError("it is empty (0 bytes)")
        file.seek(0)
        options = {"format_whitelist": ",".join(FORMATS), "max_pixels": str(MAX_PIXELS)}
        try:
            container = av.open(_Nameless(file), options=options, metadata_errors="replace")
        except av.ArgumentError:
            raise MediaError(f"its format is not one of {', '.join(FORMATS)}") from None
        except av.InvalidDataError:
            raise MediaError("it is no media file, or one that has lost its begin or its end") from None
        with container:
            yield container


class _Nameless:
    """A file without its name, which would count when FFmpeg guesses the format."""

    def __init__(self, file: BinaryIO):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def choose_stream(streams, what: str):
    """The default stream, else the first, set to decode in one thread; cover art is no video."""
    real = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    if not real:
        raise MissingStream(f"it has no {what}")
    stream = next((stream for stream in real if stream.disposition & Disposition.default), real[0])
    if stream.codec_context is None:
        raise MediaError(f"its {what} are of a codec that is not known here")
    stream.codec_context.thread_count = 1
    return stream


def stretch_of(container: av.container.InputContainer, time_range: tuple[float, float] | None) -> Stretch:
    """Where a time range, counted from the file's start, lies; a file no longer than the range has been cut to it already."""
    claimed = None if container.duration is None else Fraction(container.duration, av.time_base)
    begin, end = (Fraction(seconds) for seconds in time_range or (0, 0))
    if time_range is not None and (claimed is None or claimed > end - begin + CUT_SLACK_SECONDS):
        if end - begin > MAX_SECONDS:
            raise MediaError(f"its time range is {float(end - begin):g} s long, but a clip may last {MAX_SECONDS} s")
        origin = Fraction(container.start_time or 0, av.time_base)
        return Stretch(origin + begin, origin + end)
    if claimed is not None and claimed > MAX_SECONDS and _format(container) in CLAIMS:
        raise MediaError(f"it claims to last {float(claimed):.0f} s, but a clip may last {MAX_SECONDS} s")
    return Stretch()


def decode_from(container: av.container.InputContainer, stream, begin: Fraction | None) -> Iterator[av.frame.Frame]:
    """The stream's frames, from the start of the file or else from some frame before `begin` on."""
    if stream.type == "video" and _format(container) == "avi":
        return _in_avi_order(_decode(container, stream), stream.start_time or 0)
    origin = Fraction(container.start_time or 0, av.time_base)
    if begin is None or begin - RUN_UP_SECONDS <= origin or _format(container) not in SEARCHABLE:
        return _decode(container, stream)
    with suppress(av.FFmpegError, MediaError):  # of a container that cannot be searched, or led amid a group of pictures
        container.seek(int((begin - RUN_UP_SECONDS) * av.time_base))
        frames = _decode(container, stream)
        first = next(frames, None)
        if first is not None and first.pts is not None and first.pts * first.time_base <= begin:
            return chain([first], frames)
    with suppress(av.FFmpegError):
        container.seek(int((origin - RUN_UP_SECONDS) * av.time_base))  # the very start
    return _decode(container, stream)


def check_end(container: av.container.InputContainer, stream, reached: Fraction) -> None:
    """MediaError if a stream that ended at `reached` has lost more than a little of its end."""
    begin, end = CLAIMS.get(_format(container), lambda _: (None, None))(stream)
    if end is not None and end - reached > max(MISSING_SECONDS, (end - begin) / 20):
        raise MediaError(f"it ends after {float(reached - begin):.2f} s of {float(end - begin):.2f} s: it is not whole")


def _decode(container: av.container.InputContainer, stream) -> Iterator[av.frame.Frame]:
    for packet in _packets(container, stream):
        if packet.is_corrupt:
            raise MediaError(f"its {stream.type}{_at(packet)} is damaged")
        try:
            yield from packet.decode()
        except MemoryError:  # of the machine, not of the file
            raise
        except av.FFmpegError as error:
            raise MediaError(f"its {stream.type}{_at(packet)} cannot be decoded: {error.strerror}") from error


def _packets(container: av.container.InputContainer, stream) -> Iterator[av.Packet]:
    try:
        yield from container.demux(stream)
    except IndexError:  # PyAV looks for a stream that was not there when the file was opened, as a cut flv makes it
        raise MediaError("a stream begins in its midst, as in a file that has lost its end") from None


def _in_avi_order(frames: Iterator[av.VideoFrame], start: int) -> Iterator[av.VideoFrame]:
    """AVI does not store when a frame is shown, and what FFmpeg makes of that goes to and fro; frames come out at a steady pace."""
    first = None
    for frame in frames:
        first = frame.dts if first is None else first
        frame.pts = None if frame.dts is None or first is None else start + frame.dts - first
        yield frame


def _at(packet: av.Packet) -> str:
    return "" if packet.pts is None else f" at {float(packet.pts * packet.time_base):.2f} s"


def _format(container: av.container.InputContainer) -> str:
    return container.format.name.split(",")[0]


def _begin(stream) -> Fraction:
    return Fraction(stream.start_time or 0) * stream.time_base


def _claimed_by_index(stream) -> tuple[Fraction, Fraction]:
    """(begin, end) of a stream as its index says; not by the count of its frames, for an edit list may hide some."""
    return _begin(stream), _begin(stream) + (stream.duration or 0) * stream.time_base


def _claimed_by_count(stream) -> tuple[Fraction, Fraction]:
    """(begin, end) of a stream as its index and its frame count say (of an AVI without index, FFmpeg corrects the first)."""
    begin, end = _claimed_by_index(stream)
    by_frames = stream.frames / stream.average_rate if stream.type == "video" and stream.average_rate else Fraction(0)
    return begin, max(end, begin + by_frames)


def _claimed_by_tag(stream) -> tuple[Fraction, Fraction] | tuple[None, None]:
    """(begin, end) of a Matroska stream by a tag that most writers leave; its duration may be that of another stream."""
    with suppress(ValueError):
        hours, minutes, seconds = map(Fraction, stream.metadata.get("DURATION", "").split(":"))
        return _begin(stream), 3600 * hours + 60 * minutes + seconds
    return None, None


# The containers whose streams say how long they last; of the others FFmpeg only estimates it.
CLAIMS = {"mov": _claimed_by_index, "avi": _claimed_by_count, "matroska": _claimed_by_tag}
