"""Configuration of an evaluation (`job: eval`)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from xkd.config import Settings
from xkd.pipelines.config import DataConfig, Location

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
    """Shard folders, and where on this machine they are kept; what is not given is the run's own."""

    train: Location | None = Field(None, description="shard folder (or URL) that the classifier is fitted on")
    test: Location | None = Field(None, description="shard folder (or URL) that is scored")
    stage_dir: Path | None = Field(None, description="copy the shards to this folder of node-local disk before use")
    cache_dir: Path | None = Field(None, description="keep shards in this folder of node-local disk from their first use on")
    cache_bytes: int | None = Field(None, gt=0, description="shards in cache_dir take no more than this")
    allow_pipe: bool | None = Field(None, description="allow pipe: locations, which run the shell command that they name")

    def over(self, data: DataConfig) -> DataConfig:
        """A run's settings with those given here in place of its own; a folder given here is the only one."""
        names = ("stage_dir", "cache_dir", "cache_bytes", "allow_pipe")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.stage_dir or self.cache_dir:
            given = {"stage_dir": None, "cache_dir": None, "cache_bytes": None} | given
        kept = data.model_copy(update=given)
        if kept.stage_dir and kept.cache_dir:
            raise ValueError("data: stage_dir copies every shard, cache_dir those in use: set one of them")
        if kept.cache_bytes and not kept.cache_dir:
            raise ValueError(f"data.cache_bytes: {kept.cache_bytes} limits data.cache_dir, which is not set: set it as well")
        return kept


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
