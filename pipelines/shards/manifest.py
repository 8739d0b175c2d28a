"""The manifest of a shard folder: what is in it, how it was made, and a checksum of every file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd.pipelines.shards.identity import add_identities

MANIFEST = "manifest.json"
FORMAT = 1
CONVERSION = 1  # raised when the converters make other bytes of the same source and settings

Identity = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VideoForm(_Record):
    """The form all videos of a shard set have; `quality` is the codec's constant-quality level (crf: lower is better)."""

    codec: str
    fps: int
    short_side: int
    multiple: int
    gop: int
    quality: int
    pixel_format: str = "yuv420p"
    container: str = "mp4"


class AudioForm(_Record):
    """The form all sounds of a shard set have."""

    codec: Literal["pcm16", "flac"]
    sample_rate: int
    channels: int = 1

    @property
    def extension(self) -> str:
        return {"pcm16": "wav", "flac": "flac"}[self.codec]


class Profile(_Record):
    """A clean form to convert to (convert/profiles.py has the table)."""

    name: str
    video: VideoForm
    audio: AudioForm


class Settings(_Record):
    """What decides the bytes of a shard set: two conversions with equal settings are the same."""

    dataset: str
    split: str
    streams: str  # which streams a sample has: "both", "video", "audio" or "video, sound optional"
    profile: Profile
    limit: int | None
    shuffle: int | None  # seed of the order; None is the order of the names' hashes
    shard_samples: int
    shard_bytes: int
    part: tuple[int, int] | None  # (i, n): the i-th of n parts of a shard set, from 1 on; None is the whole
    source_identity: str


class Source(_Record):
    """What was converted, as it was listed: the name of its folder, how many items were taken of it, and their bytes."""

    name: str
    num_items: int
    num_bytes: int


class Completeness(_Record):
    """From what the authors of a dataset published to what is here; a `limit` makes converted + failed less than present.

    Of a part, `converted` and `failed` count its own samples, the others those of the whole.
    """

    official: int | None  # published count of the split; None where there is none
    official_classes: int | None
    listed: int | None  # in the lists that lie with the source; None where there are none
    present: int  # listed (or, without lists, any), and there
    unlisted: int  # there, but in no list
    converted: int
    failed: int


class ShardRecord(_Record):
    """One shard: its files are NAME.tar, NAME.idx, NAME.safetensors and NAME.stats.json."""

    name: str
    begin: int  # place of its first item in the order of the whole
    num_samples: int
    video_frames: int
    audio_samples: int
    class_samples: tuple[int, ...]
    identity: Identity
    tar_bytes: int
    tar_sha256: str
    index_sha256: str
    sidecar_bytes: int
    sidecar_sha256: str


class Manifest(_Record):
    """The root record of a shard folder, written last: a folder without one is not finished.

    `identity` follows from the keys and CRCs of the samples alone: it does not depend on their order and their shards.
    """

    format: Literal[1]
    name: str
    identity: Identity
    settings: Settings
    source: Source
    completeness: Completeness
    classes: tuple[str, ...]
    class_samples: tuple[int, ...]  # in the order of `classes`; a sample of several classes counts in each
    num_folds: int
    num_samples: int
    num_bytes: int
    video_seconds: float
    audio_seconds: float
    versions: dict[str, str]
    shards: tuple[ShardRecord, ...]

    @model_validator(mode="after")
    def _check(self):
        for record in (self, *self.shards):
            if len(record.class_samples) != len(self.classes):
                raise ValueError(
                    f"{record.name}: class_samples has {len(record.class_samples)} numbers for {len(self.classes)} classes"
                )
        return self

    @property
    def shards_sha256(self) -> str:
        """What names the shard set as it lies here: a checksum of the tars, in order."""
        return hashlib.sha256("".join(shard.tar_sha256 for shard in self.shards).encode()).hexdigest()

    @property
    def num_failures(self) -> int:
        return self.completeness.failed

    @property
    def streams(self) -> str:
        return self.settings.streams

    @property
    def split(self) -> str:
        return self.settings.split

    @property
    def video(self) -> VideoForm:
        return self.settings.profile.video

    @property
    def audio(self) -> AudioForm:
        return self.settings.profile.audio


def totals(shards: Sequence[ShardRecord], profile: Profile, num_classes: int) -> dict:
    """The fields of a manifest that are sums over its shards."""
    return {
        "identity": add_identities(shard.identity for shard in shards),
        "class_samples": tuple(sum(shard.class_samples[label] for shard in shards) for label in range(num_classes)),
        "num_samples": sum(shard.num_samples for shard in shards),
        "num_bytes": sum(shard.tar_bytes for shard in shards),
        "video_seconds": sum(shard.video_frames for shard in shards) / profile.video.fps,
        "audio_seconds": sum(shard.audio_samples for shard in shards) / profile.audio.sample_rate,
        "shards": tuple(shards),
    }


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; ValueError where there is none or it is not of this format."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such shard folder; write it with `xkd shards write SOURCE --out {folder}`")
    if not path.is_file():
        raise ValueError(f"{folder}: is no finished shard folder (no {MANIFEST}); run its `xkd shards write` to the end")
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(data: bytes, path: str) -> Manifest:
    """The manifest of a file's bytes; ValueError, which names the file, where it is not of this format."""
    try:
        return Manifest.model_validate_json(data)
    except ValueError as error:
        raise ValueError(f"{path}: is not a manifest of format {FORMAT}; convert the dataset again ({error})") from None
