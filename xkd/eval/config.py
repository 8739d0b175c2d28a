"""Configuration of an evaluation (`job: eval`)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from xkd.config import Settings

UNTRAINED = "untrained"


class SvmConfig(Settings):
    """A linear SVM on frozen, standardised features."""

    name: Literal["svm"] = "svm"
    c: tuple[PositiveFloat, ...] = Field((0.001, 0.01, 0.1, 1.0), min_length=1)  # tried by cross-validation on the training split
    folds: int = Field(5, ge=2)  # of that cross-validation


class SupervisedConfig(Settings):
    """The encoders of the evaluated net trained from labels instead, as a reference."""

    epochs: PositiveInt
    batch_size: PositiveInt = 32
    lr: PositiveFloat = 1e-3
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(30, ge=0)


class EvalShards(Settings):
    """Shard folders; those that are not given are the run's own."""

    train: Path | None = None
    test: Path | None = None


class EvalConfig(Settings):
    """What is evaluated, on which shards, by which protocol."""

    job: Literal["eval"]
    checkpoint: str  # a run directory, or `untrained`
    architecture: Path | None = None  # run directory or pretrain yaml that describes the net and its views; default: the checkpoint
    backbone: Literal["teacher", "student"] = "teacher"
    data: EvalShards = EvalShards()
    protocol: SvmConfig = SvmConfig()
    seed: int = 0  # of the cross-validation folds and of untrained weights
    batch_size: PositiveInt = 32
    out: Path | None = None  # folder of results.json and results.md; default: eval/PROTOCOL-BACKBONE in the run directory

    @model_validator(mode="after")
    def _untrained_needs_a_place(self):
        missing = [name for name in ("architecture", "out") if getattr(self, name) is None]
        if self.checkpoint == UNTRAINED and missing:
            raise ValueError(f"checkpoint: {UNTRAINED} has no run directory of its own; give {' and '.join(missing)} as well")
        return self

    @property
    def architecture_source(self) -> Path:
        return self.architecture or Path(self.checkpoint)

    @property
    def out_dir(self) -> Path:
        return self.out or Path(self.checkpoint) / "eval" / f"{self.protocol.name}-{self.backbone}"
