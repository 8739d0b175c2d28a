"""What an exported folder says of itself, config.json: its encoders' files, and the views that they take."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, ValidationError

from xkd.config import Settings
from xkd.config_errors import sentences
from xkd.model.config import Modality
from xkd.pipelines.config import DataConfig, Location

DESCRIPTION = "config.json"
FORMAT = 1
# Of a run's section `data`: what its views are, not where its shards lie and how they are read.
VIEW_FIELDS = {
    *("clip_seconds", "min_seconds", "crop_from", "aligned_locals", "train_clips", "eval_clips", "eval_crops"),
    *("video", "audio"),
}


class EncoderFile(Settings):
    """An encoder's file, and what its tensors do not show."""

    file: str = Field(pattern=r"^\w[\w.-]*$", description="beside config.json")
    sha256: str = Field(description="of the file")
    dim: PositiveInt = Field(description="width of a token, and of a feature")
    depth: PositiveInt = Field(description="blocks")
    heads: PositiveInt = Field(description="attention heads a block")
    cls_token: bool = Field(description="whether there is a class token, before the others")
    shape: tuple[PositiveInt, ...] = Field(description="view that positions were learned for: 3, T, H, W or 1, mel bands, steps")
    patch: tuple[PositiveInt, ...] = Field(description="sides of one token")


class StoredFrames(Settings):
    """How frames lay in the shards: frames of a file are brought to it before they are cropped."""

    fps: PositiveInt = Field(description="frames a second")
    short_side: PositiveInt = Field(description="pixels")
    multiple: PositiveInt = Field(description="the long side is the nearest multiple of it, pixels")


class Views(DataConfig):
    """The section `data` of the run, without its shards."""

    train: Location = Field("", description="none: an exported encoder has no shards")


class Description(Settings):
    """The content of config.json."""

    format: Literal[1] = Field(FORMAT, description="of this file")
    layout: Literal["safetensors", "release", "timm"] = Field(description="how tensors are named and stored (--format)")
    backbone: Literal["teacher", "student"] = Field(description="whose encoders these are")
    encoders: dict[Modality, EncoderFile]
    data: Views
    stored: StoredFrames
    source: dict = Field(description="the checkpoint, its checksum, the version and commit of the exporting xkd")

    @property
    def modalities(self) -> list[Modality]:
        return list(self.encoders)


def is_exported(folder: Path) -> bool:
    """Whether a folder is what `xkd export` writes."""
    return (folder / DESCRIPTION).is_file()


def read_description(folder: Path) -> Description:
    """The description of an exported folder; ValueError where it is none, or of another format."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise ValueError(f"{folder}: holds no exported encoders (it has no {DESCRIPTION}): give the folder that `xkd export` wrote")
    try:
        return Description.model_validate_json(path.read_bytes())
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, keys))}: {sentence}" for keys, sentence in sentences(error, Description))
        raise ValueError(f"{path}: is not a description of format {FORMAT} ({told}): export again with this version") from None


def write_description(description: Description, folder: Path) -> None:
    unused = set(DataConfig.model_fields) - VIEW_FIELDS
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=2, exclude={"data": unused}) + "\n")
