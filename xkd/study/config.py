"""Configuration of a study (`job: study`): the data, the rows of its table, the seeds, what is compared."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError, model_validator

from xkd.config import Settings
from xkd.config_errors import unknown_choice
from xkd.eval.config import SvmConfig
from xkd.pipelines.avdigits.settings import Settings as ClipSettings

NAME = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Score = Literal["video", "audio", "both"]


class MediaConfig(Settings):
    """An AV-Digits set that the study draws for itself."""

    train: PositiveInt = Field(2000, description="clips to pre-train on, and to fit the SVM on")
    test: PositiveInt = Field(600, description="clips to test on")
    seed: int = Field(0, ge=0, description="of the clips; another seed gives other clips, of the same scans")
    clips: dict = Field({}, description="fields of a clip (pipelines/avdigits/settings.py) that are not as in the data set itself")

    @model_validator(mode="after")
    def _check(self):
        for name in self.clips:
            if name not in ClipSettings.__dataclass_fields__:
                raise ValueError(f"clips: {unknown_choice(name, list(ClipSettings.__dataclass_fields__))}")
        try:
            assert self.clip_settings
        except ValidationError as error:
            wrong = error.errors()[0]
            raise ValueError(f"clips: {'.'.join(map(str, wrong['loc']))}: {wrong['input']!r}: {wrong['msg']}") from None
        return self

    @property
    def clip_settings(self) -> ClipSettings:
        """What the clips are drawn by."""
        return TypeAdapter(ClipSettings).validate_python(self.clips)


class RowConfig(Settings):
    """A row of the table: a pre-training that differs from the others in some fields."""

    name: str = Field(pattern=NAME, description="small letters, digits and hyphens; in the table and in file names")
    fields: dict = Field({}, description="of the pre-training configuration, over those of the study")
    media: str | None = Field(None, description="name of the media to train and test on; none: the study's first")
    seeds: tuple[int, ...] | None = Field(None, min_length=1, description="none: the study's")
    against: str | None = Field(None, description="the row that this one is compared with, seed by seed; none: with none")


class PrimaryConfig(Settings):
    """The one number that the study was made for, fixed before its first run."""

    row: str = Field(description="name of a row, which is compared with the row that it is `against`")
    score: Score = Field(description="accuracy on the features of video, of audio, or of both side by side")


class StudyConfig(Settings):
    """A study: every row is trained and evaluated with every one of its seeds."""

    job: Literal["study"]
    work_dir: Path = Field(description="folder of media, shards and runs, of which nothing is needed once the records are there")
    records: Path = Field(description="folder of the records, a json file for each row and seed that is finished")
    pretrain: str = Field(description="pre-training configuration that all rows start from: a file, or its path below configs/")
    fields: dict = Field({}, description="of that configuration, for all rows")
    media: dict[str, MediaConfig] = Field(min_length=1, description="the data by name")
    backbone: Literal["student", "teacher"] = Field("student", description="whose encoders are evaluated")
    svm: SvmConfig = SvmConfig()
    seeds: tuple[int, ...] = Field(min_length=1, description="of initialisation, sample order, augmentation and masks")
    primary: PrimaryConfig
    rows: tuple[RowConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self):
        names = [row.name for row in self.rows]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"rows: {', '.join(sorted(twice))} is the name of several rows: give each its own")
        for row in self.rows:
            if row.media is not None and row.media not in self.media:
                raise ValueError(f"rows: {row.name}: media: {unknown_choice(row.media, list(self.media))}")
            if row.against is not None and row.against not in names:
                raise ValueError(f"rows: {row.name}: against: {unknown_choice(row.against, names)}")
        if self.primary.row not in names:
            raise ValueError(f"primary.row: {unknown_choice(self.primary.row, names)}")
        if self.row(self.primary.row).against is None:
            raise ValueError(f"primary.row: {self.primary.row} is compared with no other row: set `against` in it")
        return self

    def row(self, name: str) -> RowConfig:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)
