"""`xkd visualize`: the pictures of a run, or of the encoders of a file: those that its checkpoint has the parts for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import Field

from xkd.eval.checkpoint import read_architecture
from xkd.eval.config import UNTRAINED, Subject
from xkd.eval.subject import Evaluated, modalities_in, open_subject, views_of
from xkd.features import Features, extract
from xkd.model.config import ModelConfig
from xkd.model.xkd import XKD
from xkd.pipelines.config import DataConfig
from xkd.pipelines.inspect.preview import save
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import open_shards
from xkd.visualize.attention import attention
from xkd.visualize.clips import first_clips, one_view
from xkd.visualize.curves import curves, read_metrics
from xkd.visualize.embedding import embedding
from xkd.visualize.reconstruction import reconstructions


class VisualizeConfig(Subject):
    """What is drawn of which net on which clips."""

    samples: int = Field(4, gt=0, description="clips whose reconstruction and attention are drawn, the first of the shards")
    clips: int = Field(600, gt=0, description="clips on the map, the first of the shards")
    projection: Literal["tsne", "pca"] = Field("tsne", description="how features become places on the map")
    batch_size: int = Field(32, gt=0, description="clips a forward pass")
    out: Path | None = Field(None, description="folder of the pictures; none: pictures in the run directory")

    @property
    def folder(self) -> Path:
        """Where the pictures go. ValueError where no folder is given, and the checkpoint is of no run."""
        if not (self.out or self.evaluated_run):
            raise ValueError(f"out: is missing, and {self.checkpoint} is no run directory, which would hold the pictures: set it")
        return self.out or self.evaluated_run / "pictures"


def visualize(config: VisualizeConfig) -> list[str]:
    """Draws what can be drawn into `config.folder`; a line a picture: where it is, or why it is not.

    Raises ValueError where the checkpoint or the shards are missing, or do not fit each other.
    """
    folder, config = config.folder, _with_streams(config)
    subject = open_subject(config)
    data, shards = _data_of(config, subject)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for encoder in subject.encoders.values():
        encoder.to(device).eval()
    clips = first_clips(shards, data, config.samples, tuple(subject.encoders))
    clips = clips._replace(views={modality: clip.to(device) for modality, clip in clips.views.items()})
    net = subject.net
    refines = config.backbone == "teacher"  # students' tokens are never weighed
    refinement = (net.model_config if net else ModelConfig()).refinement if refines else "none"
    pictures: dict[str, Callable[[], Figure]] = {
        "reconstructions": lambda: reconstructions(_whole(config, subject).to(device), clips, data),
        "attention": partial(attention, subject.encoders, clips, data, config.backbone, refinement),
        "embedding": lambda: embedding(_features(config, subject, shards, data, device), shards.classes, config.projection),
        "curves": lambda: curves(read_metrics(_run_of(config))),
    }
    return [_draw(picture, folder / f"{name}.png") for name, picture in pictures.items()]


def _with_streams(config: VisualizeConfig) -> VisualizeConfig:
    """The same with the modalities that the checkpoint has, unless some are chosen."""
    dataset = config.dataset
    streams = dataset.streams or tuple(modalities_in(config))
    return config.model_copy(update={"dataset": dataset.model_copy(update={"streams": streams})})


def _draw(picture: Callable[[], Figure], out: Path) -> str:
    """Where a picture is; or why it cannot be drawn, which is no fault of the others."""
    try:
        save(picture(), out)
    except ValueError as reason:
        return f"{out.name} is not drawn: {reason}"
    return str(out)


def _data_of(config: VisualizeConfig, subject: Evaluated) -> tuple[DataConfig, ShardSet]:
    """The views and the shards whose clips are drawn: those of data.test, or else of data.train."""
    data = one_view(views_of(config, subject))
    if not (location := data.test or data.train):
        raise ValueError(f"data.test: names no shards, and {config.checkpoint} knows of none: set it to a shard folder")
    try:
        return data, open_shards(location, data)
    except ValueError as error:
        raise ValueError(f"data.{'test' if data.test else 'train'}: {error}") from error


def _run_of(config: VisualizeConfig) -> Path:
    if config.evaluated_run is None:
        raise ValueError(f"{config.checkpoint} is no run directory, which has metrics")
    return config.evaluated_run


def _whole(config: VisualizeConfig, subject: Evaluated) -> XKD:
    if subject.net is None:
        raise ValueError(f"{config.checkpoint} holds encoders only, no decoder: give a run directory")
    return subject.net


@torch.inference_mode()
def _features(
    config: VisualizeConfig, subject: Evaluated, shards: ShardSet, data: DataConfig, device: torch.device
) -> dict[str, Features]:
    """The features of the first clips by the net and, of a run, by the same net untrained."""
    nets = {config.backbone: subject.encoders}
    if config.evaluated_run and subject.net:
        start = read_architecture(config.evaluated_run).build(config.seed)
        nets[UNTRAINED] = {name: getattr(start, f"{name}_{config.backbone}").encoder.to(device) for name in subject.encoders}
    ids = np.arange(min(config.clips, len(shards)))
    with Loader(
        shards,
        data,
        preset="eval",
        batch_size=min(config.batch_size, len(ids)),
        device="gpu" if device.type == "cuda" else "cpu",
        streams=tuple(subject.encoders),
        ids=ids,
    ) as loader:
        return extract(loader, {name: {key: encoder.features for key, encoder in net.items()} for name, net in nets.items()})
