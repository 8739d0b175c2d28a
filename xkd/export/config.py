"""What is exported: which encoders of which checkpoint."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from xkd.config import Settings
from xkd.eval.config import UNTRAINED, DatasetConfig, Subject
from xkd.model.config import Modality


class ExportConfig(Settings):
    """The settings of `xkd export`."""

    checkpoint: str = Field(description="as in evaluation: a run directory, one of its checkpoints, files of weights")
    architecture: Path | None = Field(None, description="run directory or yaml that describes the net; none: the checkpoint")
    backbone: Literal["teacher", "student"] = Field("teacher", description="whose encoders are exported")
    modality: Literal["video", "audio", "both"] = Field("both", description="of which modality, or both")

    @field_validator("checkpoint")
    @classmethod
    def _check(cls, checkpoint: str) -> str:
        if checkpoint == UNTRAINED:
            raise ValueError(f"{UNTRAINED} is no net that others could use: give a run directory")
        return checkpoint

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return ("video", "audio") if self.modality == "both" else (self.modality,)

    @property
    def subject(self) -> Subject:
        """What an evaluation of these encoders would be told."""
        chosen = {name: getattr(self, name) for name in ("checkpoint", "architecture", "backbone")}
        return Subject(**chosen, dataset=DatasetConfig(streams=self.modalities))
