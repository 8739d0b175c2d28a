"""The cells of a study, a row and a seed each: in which order, with which settings, under which names."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from xkd.config import ConfigError, load, locate, merge, read_with_base, to_tree, validate
from xkd.study.config import RowConfig, StudyConfig
from xkd.train.config import PretrainConfig
from xkd.train.run_directory import LOCATIONS, fields_of, may_change

FORMAT = 1  # raised when the same settings would give other numbers
SHOWN_DIGITS = 8  # of an identity


@dataclass(frozen=True)
class Cell:
    """One pre-training and its evaluation."""

    study: StudyConfig
    row: RowConfig
    seed: int
    pretrain: PretrainConfig  # with the place of its run and of its shards

    @property
    def label(self) -> str:
        """As it is called on the command line."""
        return label(self.row.name, self.seed)

    @property
    def media(self) -> str:
        return media_of(self.study, self.row)

    @cached_property
    def settings(self) -> dict:
        """Everything that its numbers depend on, but for the code: what is not as the classes of the configuration have it."""
        trained = fields_of(self.pretrain.model_dump(mode="json", exclude_defaults=True))
        kept = {name: value for name, value in trained.items() if _counts(name)}
        media = self.study.media[self.media]
        return {
            "format": FORMAT,
            "pretrain": kept,
            "media": media.model_dump(mode="json", exclude={"clips"}) | {"clips": media.clip_settings.description},
            "backbone": self.study.backbone,
            "svm": self.study.svm.model_dump(mode="json"),
        }

    @property
    def identity(self) -> str:
        """A checksum of the settings: a record with it is of this cell, whatever became of the study's file since."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """As its files are called."""
        return f"{self.label}-{self.identity[:SHOWN_DIGITS]}"

    @property
    def run_dir(self) -> Path:
        return self.study.work_dir / "runs" / self.name

    @property
    def record(self) -> Path:
        return self.study.records / f"{self.name}.json"


def label(row: str, seed: int) -> str:
    return f"{row}-seed{seed}"


def media_of(study: StudyConfig, row: RowConfig) -> str:
    """The name of the media that a row is trained on."""
    return row.media or next(iter(study.media))


def shards_of(study: StudyConfig, media: str, split: str) -> Path:
    return study.work_dir / "shards" / media / split


def load_cells(path: str, overrides: Sequence[str]) -> tuple[StudyConfig, list[Cell]]:
    """A study and its cells in the order of their work: all seeds of the primary comparison, then of the other rows.

    Within each of the two one seed goes after the other, so that what is finished when a study is cut short is balanced.
    Raises ConfigError for a study, or the pre-training configuration of a row, that is wrong.
    """
    study = load(path, overrides, {"study": StudyConfig})
    first = {study.primary.row, study.row(study.primary.row).against}
    cells = [_cell(path, study, row, seed) for row in study.rows for seed in (row.seeds or study.seeds)]
    seeds = list(dict.fromkeys(cell.seed for cell in cells))
    return study, sorted(cells, key=lambda cell: (cell.row.name not in first, seeds.index(cell.seed)))


def _cell(path: str, study: StudyConfig, row: RowConfig, seed: int) -> Cell:
    base, media = locate(study.pretrain), media_of(study, row)
    tree = read_with_base(base)
    for source, fields in ((f"{path}: fields", study.fields), (f"{path}: row {row.name}", row.fields)):
        tree = merge(tree, to_tree(fields, source))
    shards = {split: str(shards_of(study, media, split)) for split in ("train", "test")}
    unnamed = merge(tree, to_tree({"seed": seed, "run_dir": "unnamed", "data": shards}, path))
    cell = Cell(study, row, seed, validate(unnamed, base, {"pretrain": PretrainConfig}))
    return Cell(study, row, seed, cell.pretrain.model_copy(update={"run_dir": cell.run_dir}))


def find_cell(cells: Sequence[Cell], wanted: str) -> Cell:
    """The cell of this label; ConfigError where there is none."""
    for cell in cells:
        if cell.label == wanted:
            return cell
    raise ConfigError(f"--cell: {wanted!r} is not one of {', '.join(cell.label for cell in cells)}")


def _counts(name: str) -> bool:
    """Whether a field can alter numbers: where files lie, how often is logged or saved cannot, where the run ends can."""
    return name not in LOCATIONS | {"run_dir"} and (name == "train.max_steps" or not may_change(name))
