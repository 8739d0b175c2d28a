"""Features of a data set's samples by the evaluated encoders, kept in a folder and computed where they are not there yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from xkd.eval.feature_store import FeatureStore, Rows
from xkd.eval.splits import Part
from xkd.eval.subject import Evaluated
from xkd.features import FeatureNet, Features, counted_batches, view_features
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.shards.index import ShardSet

PART_ROWS = 512  # samples a file: what a killed process computes again
Views = Literal["eval", "svm"]


@dataclass(frozen=True)
class Extraction:
    """How features are computed: by which encoders, of which views; `place` is this process's number and of how many."""

    subject: Evaluated
    data: DataConfig
    root: Path
    batch_size: int
    precision: Literal["fp32", "autocast"]
    seed: int
    place: tuple[int, int] = (0, 1)

    @cached_property
    def device(self) -> torch.device:
        """This process's GPU, where there is one."""
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")

    @cached_property
    def net(self) -> FeatureNet:
        """The encoders, on this process's device."""
        return {modality: encoder.to(self.device).eval().features for modality, encoder in self.subject.encoders.items()}

    def store(self, shards: ShardSet, views: Views) -> FeatureStore:
        """Where the features of a shard set are kept."""
        return FeatureStore(self.root, self._description(shards, views))

    def fill(self, parts: Sequence[Part], views: Views) -> None:
        """Compute what is missing of the features of parts of one shard set; of several processes, each its share of it."""
        shards, (rank, world_size) = parts[0].shards, self.place
        store = self.store(shards, views)
        wanted = np.unique(np.concatenate([part.ids for part in parts]))
        own = np.array_split(wanted, world_size)[rank]  # of all, not of what is missing: that depends on when one looks
        if len(missing := store.missing(own)):
            self._compute(Part(shards, missing), views, store)

    def features(self, part: Part, views: Views) -> tuple[Features, dict[str, str]]:
        """The features of a part's samples, and key and reason of those that could not be read."""
        self.fill([part], views)
        found, dropped = self.store(part.shards, views).read(part.ids)
        return found, {part.shards.sample(sample).key: reason for sample, reason in dropped.items()}

    @torch.inference_mode()
    def of_batch(self, batch: Batch) -> dict[str, np.ndarray]:
        """The features [B, V, D] of a batch's samples."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "autocast"):
            return {name: array.numpy() for name, array in view_features(batch, self.net, self.batch_size).items()}

    def _compute(self, part: Part, views: Views, store: FeatureStore) -> None:
        ids_by_key = dict(zip(part.keys, part.ids.tolist(), strict=True))
        rows, known = [], 0
        with self.open_loader(part, views) as loader:
            for batch in tqdm(counted_batches(loader), total=len(loader), desc="features", unit="batch", disable=None):
                arrays = self.of_batch(batch)
                rows.append((batch.sample_ids.numpy(), batch.keys, batch.targets.numpy(), arrays))
                if sum(len(ids) for ids, *_ in rows) >= PART_ROWS:
                    store.write(_joined(rows, {ids_by_key[key]: reason for key, reason in loader.dropped[known:]}))
                    rows, known = [], len(loader.dropped)
            dropped = {ids_by_key[key]: reason for key, reason in loader.dropped[known:]}
        if rows or dropped:
            store.write(_joined(rows, dropped))

    def open_loader(self, part: Part, views: Views) -> Loader:
        """The views of a part's samples, on this process's device."""
        return Loader(
            part.shards,
            self.data,
            preset=views,
            batch_size=min(len(part.ids), max(1, self.batch_size // self._views_a_sample(views))),
            seed=self.seed,
            device="gpu" if self.device.type == "cuda" else "cpu",
            streams=tuple(self.subject.encoders),
            ids=part.ids,
        )

    def _views_a_sample(self, views: Views) -> int:
        if views == "svm":
            return self.data.train_clips
        return self.data.eval_clips * (self.data.eval_crops if "video" in self.subject.encoders else 1)

    def _description(self, shards: ShardSet, views: Views) -> dict:
        """What the features depend on, and nothing else: another evaluation that agrees in it takes the same."""
        drawn = {"train_clips": self.data.train_clips, "seed": self.seed}
        fixed = {"eval_clips": self.data.eval_clips, "eval_crops": self.data.eval_crops}
        return {
            "encoders_sha256": self.subject.facts["encoders_sha256"],
            "precision": self.precision,
            "dataset": shards.manifest.name,
            "samples": shards.manifest.num_samples,
            "shards": [[shard.name, shard.identity] for shard in shards.manifest.shards],
            "views": views,
            "clip_seconds": self.data.clip_seconds,
            "crop_from": self.data.crop_from,
            **{modality: self._stream(modality, views) for modality in self.subject.encoders},
            **(drawn if views == "svm" else fixed),
        }

    def _stream(self, modality: str, views: Views) -> dict:
        stream = getattr(self.data, modality)
        settings = stream.model_dump(mode="json", exclude={"global_view", "local_view"})
        if views == "svm":
            return settings | {"global_view": stream.global_view.model_dump(mode="json")}
        return settings | ({"size": stream.global_view.size} if modality == "video" else {})


def _joined(rows: list, dropped: dict[int, str]) -> Rows:
    if not rows:
        return Rows(np.empty(0, np.int64), [], np.empty((0, 0), np.uint8), {}, dropped)
    ids, keys, targets, arrays = zip(*rows, strict=True)
    joined = {modality: np.concatenate([part[modality] for part in arrays]) for modality in arrays[0]}
    return Rows(np.concatenate(ids), [key for part in keys for key in part], np.concatenate(targets), joined, dropped)
