"""Scores of a test split by classifiers in training, divided over the ranks, and the file that holds them.

Shapes: N samples, K classes.
"""

import copy
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from xkd.eval.averaging import average
from xkd.eval.classification import Classifiers
from xkd.eval.metrics import score
from xkd.eval.splits import Part
from xkd.eval.training_config import FoldConfig
from xkd.features import BOTH, clips_of, counted_batches
from xkd.permissions import usual_permissions
from xkd.pipelines.loader import Loader
from xkd.train.distributed import Place, exchange, together
from xkd.train.engine import precision_of
from xkd.train.task import clips_at_once

FILE = "test.safetensors"


@dataclass(frozen=True)
class Scores:
    """The scores of the samples that could be read, in stored order, and why the others could not."""

    ids: Tensor  # [N] int64
    targets: Tensor  # [N, K] multi-hot, uint8
    scores: dict[str, Tensor]  # [N, K] of each modality, and of "both": their mean
    dropped: dict[str, str]  # key: reason


class Scoring:
    """The test, as the trainer's probe: `measure` scores the whole split and leaves the scores in the run directory.

    `shape` are the classifiers on the meta device, without weights. Precision is the training's. Raises ValueError where the shards
    cannot be read.
    """

    def __init__(
        self, config: FoldConfig, place: Place, device: Literal["cpu", "gpu"], part: Part, shape: Classifiers, steps_per_epoch: int
    ):
        self._config, self._place, self._loader_device, self._part = config, place, device, part
        every = config.classifier.test_every_epochs
        self._every_steps = max(1, round(every * steps_per_epoch)) if every else None
        self._shape = shape
        self._open_loader().close()  # what it refuses is better known before the run begins

    def is_due(self, step: int) -> bool:
        """Whether `test_every_epochs` ends after `step` steps; not before the first."""
        return bool(self._every_steps and step and step % self._every_steps == 0)

    @torch.no_grad()
    def measure(self, weights: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
        """`test/M_top1` and so on in [0, 1], M each modality and, of two, "both". Every rank must call it; all get the same."""
        began = time.perf_counter()
        model = copy.deepcopy(self._shape)
        model.load_state_dict(dict(weights), assign=True)
        found = self._merged(exchange([together(partial(self._own, model))]))
        if self._place.rank == 0:
            write_scores(found, self._config.run_dir / FILE)
        numbers = {
            f"test/{name}_{metric}": value
            for name, scores in found.scores.items()
            for metric, value in score(scores.numpy(), found.targets.numpy(), self._config.dataset.task).items()
        }
        return {**numbers, "test/samples": len(found.ids), "test/seconds": time.perf_counter() - began}

    def _open_loader(self) -> Loader:
        data = self._config.data
        views = data.eval_clips * (data.eval_crops if "video" in self._shape else 1)
        return Loader(
            self._part.shards,
            data,
            preset="eval",
            batch_size=max(1, clips_at_once(self._config, self._place) * data.train_clips // views),
            rank=self._place.rank,
            world_size=self._place.world_size,
            device=self._loader_device,
            streams=tuple(self._shape),
            ids=self._part.ids,
        )

    def _own(self, model: Classifiers) -> tuple[list[dict[str, Tensor]], dict[str, str]]:
        """Ids, targets and scores of this rank's samples, a batch each, and what is left out of them."""
        rows, device, averaging = [], next(model.parameters()).device, self._config.classifier.averaging
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision_of(self._config) != "fp32")
        with self._open_loader() as loader, autocast:
            for batch in counted_batches(loader):
                logits = model({name: clips_of(batch)[name].to(device) for name in model})
                scores = {name: average(of, len(batch.keys), averaging).cpu() for name, of in logits.items()}
                rows.append({"ids": batch.sample_ids, "targets": batch.targets.to("cpu", torch.uint8), **scores})
            return rows, dict(loader.dropped)

    def _merged(self, of_ranks: list[list[tuple[list[dict[str, Tensor]], dict[str, str]]]]) -> Scores:
        """The scores of all ranks in stored order, with the mean of both modalities where there are two."""
        parts = [part for parts in of_ranks for part in parts]
        rows = [row for of_rank, _ in parts for row in of_rank]
        if not rows:
            raise ValueError(f"{self._part.shards.location}: no test sample could be read: copy the shard folder again")
        columns = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        order = columns["ids"].argsort()
        ids, targets, *scores = (column[order] for column in columns.values())
        by_modality = dict(zip(self._shape, scores, strict=True))
        if len(scores) == 2:
            by_modality[BOTH] = sum(scores) / 2
        return Scores(ids, targets, by_modality, {key: reason for _, dropped in parts for key, reason in dropped.items()})


def write_scores(found: Scores, path: Path) -> None:
    """Writes a safetensors file, under another name until it is whole."""
    tensors = {"ids": found.ids, "targets": found.targets} | {f"scores.{name}": of for name, of in found.scores.items()}
    temporary = path.with_name(f"{path.name}.tmp")
    with usual_permissions(temporary):
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"dropped": json.dumps(found.dropped)}
        )
    os.replace(temporary, path)


def read_scores(path: Path) -> Scores:
    """What `write_scores` wrote."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
        dropped = json.loads(file.metadata()["dropped"])
    scores = {name.removeprefix("scores."): of for name, of in tensors.items() if name.startswith("scores.")}
    return Scores(tensors["ids"], tensors["targets"], scores, dropped)
