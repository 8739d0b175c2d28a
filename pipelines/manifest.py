"""The manifest of a shard folder: what is in it, how it was made, and a checksum of every file."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

MANIFEST = "manifest.json"
FORMAT = 1


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

    codec: str
    sample_rate: int
    channels: int = 1


class Profile(_Record):
    """A clean form to convert to (convert/profiles.py has the table)."""

    name: str
    video: VideoForm
    audio: AudioForm


class Settings(_Record):
    """What decides the bytes of a shard set: two conversions with equal settings are the same."""

    dataset: str
    split: str
    profile: Profile
    limit: int | None
    shard_samples: int
    source_identity: str


class ShardRecord(_Record):
    """One shard: its three files are NAME.tar, NAME.idx and NAME.safetensors."""

    name: str
    num_samples: int
    video_frames: int
    audio_samples: int
    tar_bytes: int
    tar_sha256: str
    sidecar_bytes: int
    sidecar_sha256: str


class Manifest(_Record):
    """The root record of a shard folder, written last: a folder without one is not finished."""

    format: Literal[1]
    name: str
    settings: Settings
    classes: tuple[str, ...]
    num_samples: int
    num_failures: int
    num_bytes: int
    video_seconds: float
    audio_seconds: float
    versions: dict[str, str]
    shards: tuple[ShardRecord, ...]

    @property
    def split(self) -> str:
        return self.settings.split

    @property
    def video(self) -> VideoForm:
        return self.settings.profile.video

    @property
    def audio(self) -> AudioForm:
        return self.settings.profile.audio


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; ValueError where there is none or it is not of this format."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such shard folder; write it with `xkd shards write SOURCE --out {folder}`")
    if not path.is_file():
        raise ValueError(f"{folder}: is no finished shard folder (no {MANIFEST}); run its `xkd shards write` to the end")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: is not a manifest of format {FORMAT}; convert the dataset again ({error})") from None
