"""The configuration of a training run, and of a pre-training run: everything that `xkd train` reads."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from xkd.config import Settings
from xkd.losses import LossConfig
from xkd.model.config import ModelConfig
from xkd.model.geometry import check_views
from xkd.pipelines.config import DataConfig
from xkd.train.log_config import LogConfig

# What the trainer decides itself: the batch, clipping (per tensor, not DeepSpeed's), precision.
OWN_DEEPSPEED_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16",
    "fp16",
    "torch_autocast",
    "data_types",
    "optimizer",
    "scheduler",
)
OWN_ZERO_KEYS = ("stage", "stage3_param_persistence_threshold", "offload_optimizer", "offload_param")
EMA_FORM = {0: "replicated", 1: "replicated", 2: "replicated", 3: "sharded"}


class OptimConfig(Settings):
    """AdamW and its schedule; the defaults are the paper's (method: warm-up 30 of 800 epochs at a global batch of 256)."""

    lr: float = Field(1e-4, gt=0, description="peak learning rate for `base_batch` clips; scaled linearly with the global batch")
    base_batch: int = Field(256, gt=0, description="the global batch that `lr` is stated for")
    final_lr: float = Field(0.0, ge=0, description="learning rate at the last step, scaled like `lr`")
    warmup_epochs: float = Field(30.0, ge=0, description="epochs of linear warm-up from 0")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's decay rates of the moments")
    weight_decay: float = Field(0.3, ge=0, description="decoupled decay of all but biases and 1-D tensors")
    final_weight_decay: float | None = Field(None, ge=0, description="decay at the last step, along a cosine; none: it stays")
    freeze_last_layer_epochs: float = Field(0.0, ge=0, description="epochs in which the heads' last layer stays as it is")
    recon_only_epochs: float = Field(0.0, ge=0, description="epochs before distillation and alignment count")


class ClipConfig(Settings):
    """Each gradient tensor is clipped by its own norm."""

    norm: float = Field(0.3, gt=0, description="largest norm of one tensor's gradient")
    scope: Literal["students", "all"] = Field("students", description="students: encoder and head, as released; all: decoder too")


class EmaConfig(Settings):
    """Momentum of the teachers, rising to `final` along a cosine; one value per modality. The averages are kept in float32."""

    video: float = Field(0.997, ge=0, le=1)
    audio: float = Field(0.997, ge=0, le=1)
    final: float = Field(1.0, ge=0, le=1)
    form: Literal["replicated", "sharded"] | None = Field(
        None, description="where the averages lie: on every rank, or cut like the weights; none: as the ZeRO stage needs"
    )


class RunConfig(Settings):
    """How long to train, on how many clips a step, and how often to report."""

    global_batch: int = Field(256, gt=0, description="clips a step, over all ranks")
    accumulation: int = Field(1, gt=0, description="micro-batches that a rank's share of a step is cut into: less memory")
    precision: Literal["auto", "fp32", "autocast", "bf16"] = Field(
        "auto",
        description="fp32; autocast: fp32 weights, bf16 matrix products; bf16: bf16 weights beside fp32 masters; "
        "auto: autocast on GPUs, fp32 on CPUs",
    )
    compile: bool = Field(False, description="compile each transformer block (torch.compile)")
    epochs: float = Field(800, gt=0, description="length of the run and of every schedule")
    max_steps: int | None = Field(None, gt=0, description="stop early after this many steps; schedules still span `epochs`")
    log_every: int = Field(20, gt=0, description="steps between two lines of metrics.jsonl")
    checkpoint_every: int = Field(1000, gt=0, description="steps between checkpoints; the last step has one too")
    keep_checkpoints: int = Field(2, gt=0, description="how many of the newest checkpoints are kept")
    milestone_every_epochs: float | None = Field(
        None, gt=0, description="epochs between checkpoints that are kept for good; none: there are none"
    )
    max_skipped_steps: int = Field(10, gt=0, description="stop after so many steps in a row whose loss or gradients are not finite")
    hang_timeout_minutes: float | None = Field(
        10.0, gt=0, description="end a rank that stands still for so long, and name the one that it waits for; none: never"
    )


class ProbeConfig(Settings):
    """How often the teachers' features are tried on clips that are not trained on: k-NN and retrieval, `probe/...` in the log."""

    every_epochs: float | None = Field(None, gt=0, description="epochs between two probes, from the start on; none: no probe")
    clips: int = Field(4000, ge=2, description="so many of the first samples of `data.test`, which its shards hold mixed")
    neighbours: int = Field(20, gt=0, description="nearest other clips that vote on a clip's class; all, where there are fewer")


class DeepSpeedConfig(Settings):
    """The fields from which DeepSpeed's own configuration is generated."""

    zero_stage: Literal[0, 1, 2, 3] = Field(1, description="shared out from 1: AdamW's state, 2: gradients, 3: weights")
    overrides: dict = Field({}, description="merged over the generated DeepSpeed configuration as it is")

    @model_validator(mode="after")
    def _check(self):
        zero = self.overrides.get("zero_optimization", {})
        taken = [name for name in OWN_DEEPSPEED_KEYS if name in self.overrides]
        taken += [f"zero_optimization.{name}" for name in OWN_ZERO_KEYS if name in zero]
        if taken:
            raise ValueError(
                f"overrides: {', '.join(taken)} cannot be set here, since the trainer relies on them: "
                "use train.global_batch, train.accumulation, train.precision, clip and deepspeed.zero_stage"
            )
        return self


class TrainingConfig(Settings):
    """What every kind of training run is told (one class a `job`)."""

    job: str
    run_dir: Path = Field(description="where checkpoints, metrics and state.json go")
    seed: int = Field(0, ge=0, description="seed of initialisation, sample order, augmentation and masks")
    data: DataConfig
    train: RunConfig = RunConfig()
    log: LogConfig = LogConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()

    @model_validator(mode="after")
    def _check_precision(self):
        if self.train.precision == "bf16" and self.deepspeed.zero_stage == 0:
            raise ValueError(
                "train.precision: 'bf16' has no fp32 masters at deepspeed.zero_stage 0, and small updates would be rounded away: "
                "set zero_stage to 1, 2 or 3, or precision to autocast"
            )
        return self


class PretrainConfig(TrainingConfig):
    """One pre-training run (`job: pretrain`)."""

    job: Literal["pretrain"]
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    clip: ClipConfig = ClipConfig()
    ema: EmaConfig = EmaConfig()
    probe: ProbeConfig = ProbeConfig()

    @model_validator(mode="after")
    def _check(self):
        check_views(self.model, **self.data.view_shapes)
        if self.optim.warmup_epochs > self.train.epochs:
            raise ValueError(
                f"optim.warmup_epochs: {self.optim.warmup_epochs:g} is more than train.epochs ({self.train.epochs:g}): "
                "lower the warm-up or train for longer"
            )
        if self.optim.recon_only_epochs and not self.loss.weights.recon:
            raise ValueError(
                f"optim.recon_only_epochs: in the first {self.optim.recon_only_epochs:g} epochs reconstruction alone counts, but"
                " loss.weights.recon is 0: set one of them to another value"
            )
        if self.probe.every_epochs and not self.data.test:
            raise ValueError(
                f"probe.every_epochs: is {self.probe.every_epochs:g}, but data.test names no shards to probe on: "
                "set data.test to a shard folder that is not trained on, or remove probe.every_epochs"
            )
        stage = self.deepspeed.zero_stage
        if self.ema.form not in (None, EMA_FORM[stage]):
            raise ValueError(
                f"ema.form: {self.ema.form!r} cannot be had at deepspeed.zero_stage {stage}, whose ranks have "
                f"{'parts of the weights only' if stage == 3 else 'all the weights'}: set it to {EMA_FORM[stage]}, or remove it"
            )
        self.loss.check_accumulation(self.train.accumulation)
        return self
