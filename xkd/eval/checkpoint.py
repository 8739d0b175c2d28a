"""Nets to evaluate, rebuilt from the folder of a run, without DeepSpeed."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file

from xkd.config import load
from xkd.features import FeatureNet
from xkd.losses import LossConfig
from xkd.model.config import ModelConfig
from xkd.model.xkd import XKD
from xkd.pipelines.config import DataConfig

SHOWN_DIFFERENCES = 5
WEIGHTS = "weights.safetensors"


class Architecture(BaseModel):
    """The part of a pre-training configuration that describes the net and its views; the rest of the file is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    job: Literal["pretrain"]
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()

    def build(self, seed: int) -> XKD:
        """The untrained net."""
        return XKD(self.model, self.loss, **self.data.view_shapes, seed=seed).eval()


def read_architecture(source: Path) -> Architecture:
    """The architecture that a run directory or a pre-training yaml describes; ValueError where it is neither."""
    if source.is_dir() and not (source / "config.yaml").is_file():
        raise ValueError(f"{source}: is no run directory (it has no config.yaml): give the folder that `xkd train` wrote")
    if not source.exists() and source.suffix not in (".yaml", ".yml"):
        raise ValueError(f"{source}: no such run directory: give the folder that `xkd train` wrote, or checkpoint=untrained")
    return load(source / "config.yaml" if source.is_dir() else source, [], {"pretrain": Architecture})


def find_weights(run_dir: Path, checkpoint: Path | None = None) -> Path:
    """The weights of a checkpoint of a run, or of its newest complete one; ValueError where there are none."""
    if checkpoint:
        if not (checkpoint / WEIGHTS).is_file():
            raise ValueError(f"{checkpoint}: is no finished checkpoint (no {WEIGHTS}): give another, or the run directory")
        return checkpoint / WEIGHTS
    latest = run_dir / "checkpoints" / "latest"
    if not latest.is_file():
        raise ValueError(f"{run_dir}: has no finished checkpoint (no checkpoints/latest): let its `xkd train` run to the end")
    weights = latest.parent / latest.read_text().strip() / WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{weights}: is missing, though {latest} names it: copy the run directory again")
    return weights


def load_weights(net: XKD, weights: Path) -> None:
    """Fill every parameter and buffer of `net` from a file; ValueError, with what differs, where the file is of another net."""
    found, wanted = load_file(weights), net.state_dict()
    differences = [f"{name} is missing" for name in wanted if name not in found]
    differences += [f"{name} is not part of the net" for name in found if name not in wanted]
    differences += [
        f"{name} is {list(found[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if differences:
        more = f" and {len(differences) - SHOWN_DIFFERENCES} more" if len(differences) > SHOWN_DIFFERENCES else ""
        raise ValueError(
            f"{weights}: does not fit the configured net: {'; '.join(differences[:SHOWN_DIFFERENCES])}{more}:"
            " the sections data and model must be those that it was trained with"
        )
    net.load_state_dict(found)


def load_trained(run_dir: Path) -> XKD:
    """The net of a run at its newest checkpoint, as its own configuration describes it."""
    net = read_architecture(run_dir).build(seed=0)
    load_weights(net, find_weights(run_dir))
    return net


def encoders(net: XKD, backbone: Literal["teacher", "student"]) -> FeatureNet:
    """The frozen encoders of one backbone, as functions from clips to features."""
    return {modality: getattr(net, f"{modality}_{backbone}").encoder.features for modality in ("video", "audio")}
