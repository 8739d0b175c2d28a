"""The configuration of a pre-training run: everything that `xkd train` reads."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from xkd.config import Settings
from xkd.losses import LossConfig
from xkd.model.config import ModelConfig
from xkd.model.geometry import check_views
from xkd.pipelines.config import DataConfig

# What the trainer decides itself: the batch, clipping (per tensor, not DeepSpeed's), precision.
OWN_DEEPSPEED_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16",
    "fp16",
    "torch_autocast",
    "optimizer",
    "scheduler",
)


class OptimConfig(Settings):
    """AdamW and its schedule; the defaults are the paper's (method: warm-up 30 of 800 epochs at a global batch of 256)."""

    lr: float = Field(1e-4, gt=0, description="peak learning rate for `base_batch` clips; scaled linearly with the global batch")
    base_batch: int = Field(256, gt=0, description="the global batch that `lr` is stated for")
    final_lr: float = Field(0.0, ge=0, description="learning rate at the last step, scaled like `lr`")
    warmup_epochs: float = Field(30.0, ge=0, description="epochs of linear warm-up from 0")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's decay rates of the moments")
    weight_decay: float = Field(0.3, ge=0, description="decoupled decay of all but biases and 1-D tensors")


class ClipConfig(Settings):
    """Each gradient tensor is clipped by its own norm."""

    norm: float = Field(0.3, gt=0, description="largest norm of one tensor's gradient")
    scope: Literal["students", "all"] = Field("students", description="students: encoder and head, as released; all: decoder too")


class EmaConfig(Settings):
    """Momentum of the teachers, rising to `final` along a cosine; one value per modality."""

    video: float = Field(0.997, ge=0, le=1)
    audio: float = Field(0.997, ge=0, le=1)
    final: float = Field(1.0, ge=0, le=1)


class RunConfig(Settings):
    """How long to train, on how many clips a step, and how often to report."""

    global_batch: int = Field(256, gt=0, description="clips a step, over all ranks")
    epochs: float = Field(800, gt=0, description="length of the run and of every schedule")
    max_steps: int | None = Field(None, gt=0, description="stop early after this many steps; schedules still span `epochs`")
    log_every: int = Field(20, gt=0, description="steps between two lines of metrics.jsonl")
    checkpoint_every: int = Field(1000, gt=0, description="steps between checkpoints, of which the newest is kept")
    max_skipped_steps: int = Field(10, gt=0, description="stop after so many steps in a row whose gradients are not finite")


class DeepSpeedConfig(Settings):
    """The fields from which DeepSpeed's own configuration is generated."""

    zero_stage: Literal[1, 2] = Field(1, description="1 shards the optimizer's state, 2 the gradients too")
    overrides: dict = Field({}, description="merged over the generated DeepSpeed configuration as it is")

    @model_validator(mode="after")
    def _check(self):
        zero = self.overrides.get("zero_optimization", {})
        taken = [name for name in OWN_DEEPSPEED_KEYS if name in self.overrides] + ["zero_optimization.stage"] * ("stage" in zero)
        if taken:
            raise ValueError(
                f"overrides: {', '.join(taken)} cannot be set here, since the trainer relies on them: "
                "use train.global_batch, clip and deepspeed.zero_stage"
            )
        return self


class PretrainConfig(Settings):
    """One pre-training run (`job: pretrain`)."""

    job: Literal["pretrain"]
    run_dir: Path = Field(description="where checkpoints, metrics and state.json go")
    seed: int = Field(0, ge=0, description="seed of initialisation, sample order, augmentation and masks")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    clip: ClipConfig = ClipConfig()
    ema: EmaConfig = EmaConfig()
    train: RunConfig = RunConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()

    @model_validator(mode="after")
    def _check(self):
        check_views(self.model, **self.data.view_shapes)
        if self.optim.warmup_epochs > self.train.epochs:
            raise ValueError(
                f"optim.warmup_epochs: {self.optim.warmup_epochs:g} is more than train.epochs ({self.train.epochs:g}): "
                "lower the warm-up or train for longer"
            )
        return self
