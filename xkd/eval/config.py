"""Configuration of an evaluation (`job: eval`)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from xkd.config import Settings
from xkd.pipelines.config import Location

UNTRAINED = "untrained"


class SvmConfig(Settings):
    """A linear SVM on frozen features, scaled so that a clip has unit length on average in each modality."""

    name: Literal["svm"] = "svm"
    c: tuple[PositiveFloat, ...] = Field(
        (0.1, 1.0, 10.0, 100.0), min_length=1, description="values of C that cross-validation on the training split chooses from"
    )
    folds: int = Field(5, ge=2, description="folds of that cross-validation")


class SupervisedConfig(Settings):
    """The evaluated net's encoders trained from labels instead, as a reference."""

    epochs: int = Field(gt=0, description="passes over the training shards")
    batch_size: int = Field(16, gt=0, description="clips a step")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's decay rates of the moments")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's decoupled weight decay, of all parameters")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps in which the rate rises; a cosine to 0 follows")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a net's gradient")


class EvalShards(Settings):
    """Shard folders; one that is not given is the run's own."""

    train: Location | None = Field(None, description="shard folder (or URL) that the classifier is fitted on")
    test: Location | None = Field(None, description="shard folder (or URL) that is scored")


class EvalConfig(Settings):
    """What is evaluated, on which shards, by which protocol."""

    job: Literal["eval"]
    checkpoint: str = Field(description="a run directory, or `untrained`")
    architecture: Path | None = Field(
        None, description="run directory or pretrain yaml that describes the net and its views; none: the checkpoint"
    )
    backbone: Literal["teacher", "student"] = Field("teacher", description="whose encoders are evaluated")
    data: EvalShards = EvalShards()
    protocol: SvmConfig = SvmConfig()
    seed: int = Field(0, ge=0, description="of the cross-validation's folds, and of untrained weights")
    batch_size: int = Field(32, gt=0, description="clips a forward pass")
    out: Path | None = Field(
        None, description="folder of results.json and results.md; none: eval/PROTOCOL-BACKBONE in the run directory"
    )

    @model_validator(mode="after")
    def _untrained_has_no_folder(self):
        missing = [name for name in ("architecture", "out") if getattr(self, name) is None]
        if self.checkpoint == UNTRAINED and missing:
            raise ValueError(f"checkpoint: {UNTRAINED} has no run directory of its own: set {' and '.join(missing)} as well")
        return self

    @property
    def architecture_source(self) -> Path:
        return self.architecture or Path(self.checkpoint)

    @property
    def out_dir(self) -> Path:
        return self.out or Path(self.checkpoint) / "eval" / f"{self.protocol.name}-{self.backbone}"
