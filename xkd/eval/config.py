"""Configuration of an evaluation: what is evaluated, on which data, by which protocol."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from xkd.config import Settings
from xkd.config_errors import unknown_choice
from xkd.encoder.description import is_exported
from xkd.eval.overlay import lay_over, overlay_of
from xkd.eval.tasks import TASKS, Task
from xkd.model.config import Modality
from xkd.pipelines.config import DataConfig

UNTRAINED = "untrained"
Fold = PositiveInt | Literal["all"]


class DatasetConfig(Settings):
    """The data set: a row of the table of tasks (tasks.py)."""

    name: str = Field("folder", description=f"one of {', '.join(TASKS)}; folder: any other")
    fold: Fold | None = Field(None, description="of a data set with folds: its number, or all; none: the first")
    classes: PositiveInt | None = Field(None, description="number of classes; none: that of the table")
    streams: tuple[Modality, ...] | None = Field(None, min_length=1, description="video, audio or both; none: those of the table")
    leaks: Literal["refuse", "report"] = Field(
        "refuse", description="what is done where clips of one recording are in both splits; report: listed in the results"
    )

    @model_validator(mode="after")
    def _check(self):
        if self.name not in TASKS:
            raise ValueError(f"name: {unknown_choice(self.name, list(TASKS))}")
        folds = self.task.folds
        if self.fold and not folds:
            raise ValueError(f"fold: {self.fold} was asked for, but {self.name} has no folds: remove it")
        if isinstance(self.fold, int) and self.fold > folds:
            raise ValueError(f"fold: {self.fold} is not one of {', '.join(map(str, range(1, folds + 1)))}, all ({self.name})")
        return self

    @property
    def task(self) -> Task:
        return TASKS[self.name]

    @property
    def folds(self) -> tuple[int, ...] | tuple[None]:
        """The folds to be evaluated; (None,) where the data set has none."""
        if not self.task.folds:
            return (None,)
        return tuple(range(1, self.task.folds + 1)) if self.fold == "all" else (self.fold or 1,)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The streams whose encoders are evaluated."""
        return tuple(dict.fromkeys(self.streams or self.task.streams))


class DataOverlay(overlay_of(DataConfig)):
    """The views and shards of an evaluation; what is not given is as the evaluated net was trained."""

    def over(self, data: DataConfig) -> DataConfig:
        """A run's settings with those given here in place of its own; a folder given here is the only one."""
        if self.stage_dir or self.cache_dir:
            data = data.model_copy(update={"stage_dir": None, "cache_dir": None, "cache_bytes": None})
        return lay_over(data, self, "data")


class Subject(Settings):
    """What every protocol asks: which net, which of its encoders, which data."""

    checkpoint: str = Field(
        description="a run directory or one of its checkpoints, an exported folder, an encoder's file, the beginning of the names"
        " of released files, or `untrained`"
    )
    architecture: Path | None = Field(
        None, description="run directory or pretrain yaml that describes the net and its views; none: the checkpoint"
    )
    backbone: Literal["teacher", "student"] = Field("teacher", description="whose encoders are evaluated")
    dataset: DatasetConfig = DatasetConfig()
    data: DataOverlay = DataOverlay()
    seed: int = Field(0, ge=0, description="of everything that is drawn: augmentations, orders, untrained weights")
    out: Path | None = Field(
        None, description="folder of results.json and results.md; none: eval/PROTOCOL-DATASET-BACKBONE in the run directory"
    )

    @model_validator(mode="after")
    def _check_subject(self):
        if self.checkpoint == UNTRAINED and (missing := [name for name in ("architecture", "out") if getattr(self, name) is None]):
            raise ValueError(f"checkpoint: {UNTRAINED} has no run directory of its own: set {' and '.join(missing)} as well")
        if self.dataset.task.folds and self.data.test:
            raise ValueError(f"data.test: {self.dataset.name} has folds, all in the shard folder data.train: remove data.test")
        return self

    def results_folder(self, protocol: str) -> Path:
        """Where the results of a protocol go. ValueError where no folder is given, and the checkpoint is none."""
        if self.out:
            return self.out
        if not self.evaluated_run:
            raise ValueError(f"out: is missing, and {self.checkpoint} is no run directory, which would hold the results: set it")
        fold = f"-{'all' if self.dataset.fold == 'all' else f'fold{self.dataset.folds[0]}'}" if self.dataset.task.folds else ""
        step = "" if self.evaluated_run == Path(self.checkpoint) else f"-{Path(self.checkpoint).name}"
        return self.evaluated_run / "eval" / f"{protocol}-{self.dataset.name}{fold}-{self.backbone}{step}"

    @property
    def evaluated_run(self) -> Path | None:
        """The run directory that the checkpoint is, or that it is a checkpoint of; None where it is neither."""
        path = Path(self.checkpoint)
        if path.is_dir() and self.checkpoint != UNTRAINED and not is_exported(path):
            return path.parent.parent if path.parent.name == "checkpoints" else path
        return None


class SvmConfig(Settings):
    """A linear SVM on frozen features; of several clips or crops of a test sample the mean decision counts."""

    name: Literal["svm"] = "svm"
    c: tuple[PositiveFloat, ...] = Field((0.1, 1.0, 10.0, 100.0), min_length=1, description="values of C to choose from")
    svm_c: Literal["cross-validation", "release"] = Field(
        "cross-validation", description="C by cross-validation on the training split; release: the best on the test split"
    )
    folds: int = Field(5, ge=2, description="folds of that cross-validation")
    train_views: Literal["eval", "svm"] = Field(
        "eval", description="of training samples: eval: the test's views; svm: data.train_clips augmented clips"
    )
    scaling: Literal["standard", "unit", "none"] = Field(
        "standard",
        description="standard: columns of mean 0 and deviation 1; unit: clips of length 1; of each modality, and then side by side",
    )


class KnnConfig(Settings):
    """Classes of the nearest training clips, weighted by exp(cosine / 0.07); of several clips of a sample the mean counts."""

    name: Literal["knn"] = "knn"
    neighbours: int = Field(20, gt=0, description="nearest training samples that vote; all, where there are fewer")


class RetrievalConfig(Settings):
    """Finding a test clip's sound by its pictures and the other way round, by the outputs of the heads less their mean."""

    name: Literal["retrieval"] = "retrieval"


class EvalConfig(Subject):
    """A protocol on frozen features (`job: eval`)."""

    job: Literal["eval"]
    protocol: Annotated[SvmConfig | KnnConfig | RetrievalConfig, Field(discriminator="name")] = SvmConfig()
    batch_size: int = Field(32, gt=0, description="clips a forward pass")
    precision: Literal["auto", "fp32", "autocast"] = Field(
        "auto", description="fp32; autocast: bf16 matrix products; auto: autocast on GPUs, fp32 on CPUs"
    )
    features: Path | None = Field(
        None, description="folder that features are kept in for other evaluations; none: features in the run directory, or in out"
    )

    @property
    def out_dir(self) -> Path:
        """Where the results go."""
        return self.results_folder(self.protocol.name)

    @property
    def features_dir(self) -> Path:
        """Where features are kept."""
        return self.features or (self.evaluated_run or self.out_dir) / "features"


class SupervisedConfig(Settings):
    """The evaluated net's encoders trained from labels instead, as a reference."""

    epochs: int = Field(gt=0, description="passes over the training shards")
    batch_size: int = Field(16, gt=0, description="clips a step")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's decay rates of the moments")
    weight_decay: float = Field(0.05, ge=0, description="AdamW's decoupled weight decay, of all parameters")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps in which the rate rises; a cosine to 0 follows")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a net's gradient")
