"""Configuration of the evaluations that train: `job: linear` (a linear layer on a frozen encoder) and `job: finetune` (both)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from xkd.config import Settings
from xkd.config_errors import sentences
from xkd.eval.averaging import Averaging
from xkd.eval.config import DatasetConfig, Subject
from xkd.eval.mixing import MixingConfig
from xkd.pipelines.config import DataConfig
from xkd.train.config import DeepSpeedConfig, LogConfig, RunConfig, TrainingConfig


class ClassifierOptim(Settings):
    """AdamW and its schedule: linear warm-up from 0, then half a cosine to `final_lr` (that of `lr` makes it constant)."""

    lr: float = Field(gt=0, description="peak learning rate for `base_batch` clips; scaled linearly with the global batch")
    base_batch: int = Field(gt=0, description="the global batch that `lr` is stated for")
    final_lr: float = Field(0.0, ge=0, description="learning rate at the last step, scaled like `lr`")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear warm-up from 0")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decay rates of the moments")
    weight_decay: float = Field(0.0, ge=0, description="decoupled decay of all but biases and 1-D tensors")
    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of a layer, over that of the one above it")


class ClassifierConfig(Settings):
    """The classifier, one for each stream, and how it is trained and scored."""

    dropout: float = Field(0.0, ge=0, lt=1, description="probability that a value of a feature is left out in training")
    smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label's target that goes to all classes alike")
    mixing: MixingConfig = MixingConfig()
    averaging: Averaging = Field("softmax", description="what is averaged over the clips and crops of a test sample")
    test_every_epochs: float | None = Field(
        None, gt=0, description="epochs between two tests, of which the last counts and the best is told; none: one, at the end"
    )


class _Training(Settings):
    """The sections that the evaluation of all folds and of one have in common."""

    job: Literal["linear", "finetune"]
    optim: ClassifierOptim
    classifier: ClassifierConfig = ClassifierConfig()
    train: RunConfig
    log: LogConfig = LogConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()

    @model_validator(mode="after")
    def _check_training(self):
        if self.optim.warmup_epochs > self.train.epochs:
            raise ValueError(
                f"optim.warmup_epochs: {self.optim.warmup_epochs:g} is more than train.epochs ({self.train.epochs:g}): "
                "lower the warm-up or train for longer"
            )
        if self.job == "linear" and self.optim.layer_decay != 1:
            raise ValueError(
                f"optim.layer_decay: {self.optim.layer_decay:g} has no effect in a linear evaluation, which trains one layer: "
                "remove it, or set job to finetune"
            )
        return self


class TrainingEvalConfig(Subject, _Training):
    """A linear evaluation or a fine-tuning, of one fold or of all."""

    out: Path | None = Field(
        None, description="folder of results.json and results.md, and of a run a fold; none: eval/JOB-DATASET-BACKBONE in the run"
    )

    @model_validator(mode="after")
    def _check_dataset(self):
        if self.dataset.task.multi_label and (wrong := [name for name in ("smoothing", "mixing") if self._uses(name)]):
            raise ValueError(
                f"classifier.{wrong[0]}: is for one label a sample, and a sample of {self.dataset.name} may have several: remove it"
            )
        return self

    def _uses(self, name: str) -> bool:
        return getattr(self.classifier, name) != ClassifierConfig.model_fields[name].default

    @property
    def out_dir(self) -> Path:
        """Where the results go: those of one fold of several into its run directory, which an evaluation of all goes on with."""
        (fold, *others) = self.dataset.folds
        return self._run_dir(fold) if fold and not others else self._folder

    @property
    def run_dir(self) -> Path:
        """The run directory of the one fold. ValueError where there are several."""
        fold, *others = self.dataset.folds
        if others:
            raise ValueError(
                f"dataset.fold: {self.dataset.fold} is {1 + len(others)} runs, and `xkd launch` starts one: launch dataset.fold=1,"
                " 2 and so on, then `xkd eval` with dataset.fold=all, which finds them done"
            )
        return self._run_dir(fold)

    @property
    def _folder(self) -> Path:
        whole = self.dataset.model_copy(update={"fold": "all"}) if self.dataset.task.folds else self.dataset
        return self.model_copy(update={"dataset": whole}).results_folder(self.job)

    def _run_dir(self, fold: int | None) -> Path:
        return self._folder / (f"fold-{fold}" if fold else "run")

    def of_fold(self, fold: int | None, data: DataConfig, evaluated: dict) -> "FoldConfig":
        """The training run of one fold (None: the data set has none), whose views and shards are `data`.

        Folds lie in one shard folder: a test set that `data` has is that of the net's own training, which nobody asks for here.

        Raises ValueError where the sections do not fit each other.
        """
        sections = {name: getattr(self, name) for name in ("seed", *_Training.model_fields)}
        own = {
            "run_dir": self._run_dir(fold),
            "data": data.model_copy(update={"test": None}) if fold else data,
            "dataset": self.dataset.model_copy(update={"fold": fold}),
            "evaluated": evaluated,
        }
        try:
            return FoldConfig.model_validate(sections | own)
        except ValidationError as error:
            found = sentences(error, FoldConfig)
            raise ValueError("\n".join(f"{'.'.join(map(str, keys))}: {sentence}" for keys, sentence in found)) from None


class FoldConfig(TrainingConfig, _Training):
    """One training run of an evaluation: what its run directory records."""

    data: DataConfig
    dataset: DatasetConfig
    evaluated: dict = Field(description="the net: checkpoint, backbone, checksum of its weights")

    @model_validator(mode="after")
    def _check_pairs(self):
        if self.classifier.mixing.is_on and self.data.train_clips > 1:
            raise ValueError(
                f"data.train_clips: {self.data.train_clips} clips of a sample would be mixed with each other: "
                "set it to 1 and raise train.epochs, or remove classifier.mixing"
            )
        return self
