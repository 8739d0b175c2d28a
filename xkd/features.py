"""Frozen features of the clips of a shard folder, from any number of nets in one decoding pass.

Shapes: B or N samples, V views (clips and crops) of each, D width.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from xkd.pipelines.loader import Batch, Loader

# {modality: function from normalised clips, video [B, 3, T, H, W] or audio [B, 1, F, S], to features [B, D]}
FeatureNet = Mapping[str, Callable[[Tensor], Tensor]]
BOTH = "both"


@dataclass(frozen=True)
class Features:
    """Features of some samples: an array [N, V, D] a modality, its rows in the order of `labels` and `keys`.

    A label is -1 where a sample has not exactly one. A clip with several crops has its views in a row, as in a Batch.
    """

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    keys: list[str]

    @property
    def modalities(self) -> list[str]:
        """The modalities, and "both" where there are two."""
        return [*self.arrays, *([BOTH] if len(self.arrays) == 2 else [])]

    def parts(self, modality: str) -> list[np.ndarray]:
        """The arrays that make up a modality, with as many views each: "both" pairs every crop with the sound of its clip."""
        parts = list(self.arrays.values()) if modality == BOTH else [self.arrays[modality]]
        views = max(part.shape[1] for part in parts)
        return [np.repeat(part, views // part.shape[1], axis=1) for part in parts]

    def of(self, modality: str) -> np.ndarray:
        """Features [N, V, D] of one modality; "both" is the concatenation."""
        return np.concatenate(self.parts(modality), axis=2)

    def mean(self, modality: str) -> np.ndarray:
        """The mean [N, D] over each sample's views."""
        return self.of(modality).mean(1)


def clips_of(batch: Batch) -> dict[str, Tensor]:
    """The global views of a batch by modality; None for a stream that was not read."""
    return {"video": batch.video_global, "audio": batch.audio_global}


def counted_batches(loader: Loader) -> Iterator[Batch]:
    """The clips of a loader (preset "eval" or "svm"), but for rows that only fill a batch; then `loader.dropped` has what lacks."""
    for batch in loader.epoch(0):
        if batch.valid.any():
            yield batch.counted()


def view_features(batch: Batch, net: FeatureNet, clips_a_pass: int | None = None) -> dict[str, Tensor]:
    """Features [B, V, D] of the views of a batch's samples, on the host, with so many clips at a time in the net (None: all)."""
    clips, count = clips_of(batch), len(batch.keys)
    found = {}
    for modality, features in net.items():
        passes = clips[modality].split(clips_a_pass or len(clips[modality]))
        found[modality] = torch.cat([features(part).float().cpu() for part in passes]).unflatten(0, (count, -1))
    return found


def batch_features(batch: Batch, net: FeatureNet) -> dict[str, Tensor]:
    """Features [B, D] of a batch's samples, on the host: where a sample has several clips or crops, their mean."""
    return {modality: features.mean(1) for modality, features in view_features(batch, net).items()}


@torch.inference_mode()
def extract(loader: Loader, nets: Mapping[str, FeatureNet]) -> dict[str, Features]:
    """Features of every sample that `loader` (preset "eval") yields, for each of the named nets; not of damaged ones."""
    rows = {name: {modality: [] for modality in net} for name, net in nets.items()}
    labels, keys = [], []
    for batch in tqdm(counted_batches(loader), total=len(loader), desc="features", unit="batch", disable=None):
        for name, net in nets.items():
            for modality, features in view_features(batch, net).items():
                rows[name][modality].append(features.numpy())
        labels.append(batch.labels.cpu().numpy())
        keys += batch.keys
    labels = np.concatenate(labels)
    return {
        name: Features({modality: np.concatenate(parts) for modality, parts in by_modality.items()}, labels, keys)
        for name, by_modality in rows.items()
    }
