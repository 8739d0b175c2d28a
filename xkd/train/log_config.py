"""What of a run is logged, and where to; nothing here alters a number of it."""

from typing import Literal

from pydantic import Field, model_validator

from xkd.config import Settings


class WandbConfig(Settings):
    """The run at Weights & Biases (`pip install wandb`); `log.wandb={}` takes the defaults."""

    project: str = Field("xkd", description="project that the run appears in")
    entity: str | None = Field(None, description="user or team; none: the default of the account that is logged in")
    name: str | None = Field(None, description="name of the run; none: that of run_dir's last folder")
    mode: Literal["online", "offline"] = Field("online", description="offline: kept in run_dir/wandb, for `wandb sync`")


class CollapseConfig(Settings):
    """When the alarm rings: a statistic beyond its bound for `lines` log lines in a row."""

    lines: int = Field(10, gt=0, description="log lines in a row before the alarm")
    feature_std: float = Field(0.01, ge=0, description="least deviation of a student's features over the clips of a batch")
    min_entropy: float = Field(0.01, ge=0, le=1, description="least entropy of a teacher's outputs, as a share of log(outputs)")
    max_entropy: float = Field(0.98, ge=0, le=1, description="greatest entropy of a teacher's outputs, as a share of log(outputs)")

    @model_validator(mode="after")
    def _check(self):
        if self.min_entropy >= self.max_entropy:
            raise ValueError(
                f"min_entropy: {self.min_entropy:g} is not below max_entropy ({self.max_entropy:g}): the alarm would always ring"
            )
        return self


class LogConfig(Settings):
    """Where metrics go besides metrics.jsonl and the screen; `train.log_every` says how often."""

    tensorboard: bool = Field(True, description="write TensorBoard events to run_dir/tensorboard")
    wandb: WandbConfig | None = Field(None, description="log to Weights & Biases as well")
    pictures_every_epochs: float | None = Field(
        20.0,
        gt=0,
        description="of pre-training: epochs between two pictures of it in TensorBoard and W&B; none: there are none",
    )
    collapse: CollapseConfig = CollapseConfig()
