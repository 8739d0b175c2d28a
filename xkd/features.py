"""Frozen features of the clips of a shard folder, from any number of nets in one decoding pass."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from xkd.pipelines.loader import Batch, Loader

# {modality: function from normalised clips, video [B, 3, T, H, W] or audio [B, 1, F, S], to features [B, D]}
FeatureNet = Mapping[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True)
class Features:
    """Features of one split: an array [N, D] a modality, its rows in the order of `labels` and `keys`."""

    arrays: dict[str, np.ndarray]
    labels: np.ndarray
    keys: list[str]

    @property
    def modalities(self) -> list[str]:
        """The modalities, and "both" where there are two."""
        return [*self.arrays, *(["both"] if len(self.arrays) == 2 else [])]

    def of(self, modality: str) -> np.ndarray:
        """Features [N, D] of one modality; "both" is the concatenation."""
        return np.concatenate(list(self.arrays.values()), axis=1) if modality == "both" else self.arrays[modality]


def clips_of(batch: Batch) -> dict[str, Tensor]:
    """The global views of a batch by modality."""
    return {"video": batch.video_global, "audio": batch.audio_global}


def counted_batches(loader: Loader) -> Iterator[Batch]:
    """The clips of a loader (preset "eval"), but for rows that only fill a batch; then `loader.dropped` says what lacks."""
    for batch in loader.epoch(0):
        if batch.valid.any():
            yield batch.counted()


def batch_features(batch: Batch, net: FeatureNet) -> dict[str, Tensor]:
    """Features [B, D] of a batch's samples, on the host: where a sample has several clips or crops, their mean."""
    clips, count = clips_of(batch), len(batch.keys)
    return {
        modality: features(clips[modality]).float().unflatten(0, (count, -1)).mean(1).cpu() for modality, features in net.items()
    }


@torch.inference_mode()
def extract(loader: Loader, nets: Mapping[str, FeatureNet]) -> dict[str, Features]:
    """Features of every sample that `loader` (preset "eval") yields, for each of the named nets; not of damaged ones."""
    rows = {name: {modality: [] for modality in net} for name, net in nets.items()}
    labels, keys = [], []
    for batch in tqdm(counted_batches(loader), total=len(loader), desc="features", unit="batch", disable=None):
        for name, net in nets.items():
            for modality, features in batch_features(batch, net).items():
                rows[name][modality].append(features.numpy())
        labels.append(batch.labels.cpu().numpy())
        keys += batch.keys
    labels = np.concatenate(labels)
    return {
        name: Features({modality: np.concatenate(parts) for modality, parts in by_modality.items()}, labels, keys)
        for name, by_modality in rows.items()
    }
