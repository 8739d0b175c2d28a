"""An evaluation on frozen features: the features of each fold, a protocol, and a record of what was evaluated on what."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

import torch

from xkd.eval import results
from xkd.eval.config import EvalConfig
from xkd.eval.extraction import Extraction, Views
from xkd.eval.protocol import Trial
from xkd.eval.splits import Fold, Part, open_folds
from xkd.eval.subject import Evaluated, open_subject, views_of
from xkd.pipelines.config import DataConfig
from xkd.train.distributed import claim_device, find_place

BOTH_STREAMS = {"video", "audio"}


@dataclass(frozen=True)
class Protocol:
    """A row of the table of protocols; the module's `run(config, trial)` gives the record of each modality."""

    module: str
    learns: bool = True  # from the training split
    needs_one_label: bool = True
    needs_heads: bool = False  # of both modalities
    metric: str | None = None  # None: the task's

    @property
    def run(self) -> Callable:
        return import_module(self.module).run


PROTOCOLS = {
    "svm": Protocol("xkd.eval.svm"),
    "knn": Protocol("xkd.eval.knn"),
    "retrieval": Protocol("xkd.eval.retrieval", learns=False, needs_one_label=False, needs_heads=True, metric="r1"),
}


def run(config: EvalConfig) -> dict:
    """Evaluate; write results.json and results.md into `config.out_dir`; return what results.json holds.

    Raises ValueError where the checkpoint or a shard folder is missing, or they or the protocol do not fit each other.
    """
    began = time.monotonic()
    if (ranks := find_place().world_size) > 1:
        raise ValueError(
            f"{ranks} processes were started, but a protocol on frozen features is one: compute the features by `xkd features` with"
            " them, and start `xkd eval` alone"
        )
    out, protocol = config.out_dir, PROTOCOLS[config.protocol.name]
    subject, data, folds = prepare(config)
    extraction = extraction_of(config, subject, data)
    fill(extraction, config, folds)
    records = [_record(fold, config, protocol, extraction) for fold in folds]
    found = results.results(
        config,
        protocol=config.protocol.name,
        evaluated=subject.facts | {"precision": extraction.precision},
        data=data,
        folds=folds,
        records=records,
        seconds=time.monotonic() - began,
        metric=protocol.metric,
    )
    results.write(found, out)
    return found


def keep_features(config: EvalConfig) -> list[str]:
    """Compute what is missing of the features of an evaluation, as one of the processes that a launcher may have started.

    Returns what is kept where, a line each, on the first process. Raises ValueError as `run` does.
    """
    place = find_place()
    claim_device(place)
    subject, data, folds = prepare(config)
    extraction = extraction_of(config, subject, data, (place.rank, place.world_size))
    fill(extraction, config, folds)
    lines = [
        f"{extraction.store(parts[0].shards, views).folder}: {parts[0].shards.location}, {views} views"
        for parts, views in _needed(config, folds)
    ]
    return list(dict.fromkeys(lines)) if place.rank == 0 else []


def prepare(config: EvalConfig) -> tuple[Evaluated, DataConfig, list[Fold]]:
    """The net, the views and the folds; ValueError, before anything is computed, for what cannot be evaluated."""
    protocol, dataset = PROTOCOLS[config.protocol.name], config.dataset
    if protocol.needs_one_label and dataset.task.multi_label:
        raise ValueError(
            f"protocol.name: {config.protocol.name} is for one label a clip, and clips of {dataset.name} have several: use"
            " `job: linear` or `job: finetune`"
        )
    if protocol.needs_heads and set(dataset.modalities) != BOTH_STREAMS:
        raise ValueError(f"protocol.name: {config.protocol.name} needs video and sound: set dataset.streams to [video, audio]")
    subject = open_subject(config)
    if protocol.needs_heads and not subject.heads:
        raise ValueError(
            f"protocol.name: {config.protocol.name} compares outputs of heads, and {config.checkpoint} holds encoders only: give a"
            " run directory"
        )
    data = views_of(config, subject)
    return subject, data, open_folds(dataset, data)


def extraction_of(config: EvalConfig, subject: Evaluated, data: DataConfig, place: tuple[int, int] = (0, 1)) -> Extraction:
    """How this process, one of several, computes features."""
    auto = "autocast" if torch.cuda.is_available() else "fp32"
    precision = auto if config.precision == "auto" else config.precision
    return Extraction(subject, data, config.features_dir, config.batch_size, precision, config.seed, place)


def fill(extraction: Extraction, config: EvalConfig, folds: list[Fold]) -> None:
    """Compute what is missing of the features that the protocol needs, in one pass over each shard set for all folds."""
    for parts, views in _needed(config, folds):
        extraction.fill(parts, views)


def _needed(config: EvalConfig, folds: list[Fold]) -> Iterator[tuple[list[Part], Views]]:
    if PROTOCOLS[config.protocol.name].learns:
        yield [fold.train for fold in folds], _train_views(config)
    yield [fold.test for fold in folds], "eval"


def _train_views(config: EvalConfig) -> Views:
    return getattr(config.protocol, "train_views", "eval")


def _record(fold: Fold, config: EvalConfig, protocol: Protocol, extraction: Extraction) -> dict:
    train, dropped = None, {}
    if protocol.learns:
        train, dropped["train"] = extraction.features(fold.train, _train_views(config))
    test, dropped["test"] = extraction.features(fold.test, "eval")
    num_classes = len(fold.test.shards.classes)
    trial = Trial(config.dataset.task, train, test, num_classes, extraction.subject.heads, config.seed)
    return results.of_fold(fold, protocol.run(config.protocol, trial), dropped)
