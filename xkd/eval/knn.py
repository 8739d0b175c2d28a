"""Classes of test clips by their nearest training clips."""

import numpy as np
import torch
from torch.nn.functional import normalize

from xkd.eval.config import KnnConfig
from xkd.eval.protocol import Trial, one_hot
from xkd.eval.results import judge
from xkd.features import Features
from xkd.neighbours import vote

QUERIES_AT_ONCE = 1024  # whose similarities to all training samples fit in memory


def run(config: KnnConfig, trial: Trial) -> dict[str, dict]:
    """The record of each modality, and of both where there are two: each of unit length, side by side."""
    targets = one_hot(trial.test.labels, trial.num_classes)
    note = f"{min(config.neighbours, len(trial.train.labels))} nearest training samples, weighted by exp(cosine / 0.07)"
    return {
        modality: judge(votes(trial, modality, config.neighbours), targets, trial.task) | {"note": note}
        for modality in trial.train.modalities
    }


def votes(trial: Trial, modality: str, neighbours: int) -> np.ndarray:
    """What the nearest training samples vote for each class, [Q, K]."""
    known, asked = (_units(features, modality) for features in (trial.train, trial.test))
    labels = torch.from_numpy(trial.train.labels)
    parts = [vote(part @ known.T, labels, neighbours, trial.num_classes) for part in asked.split(QUERIES_AT_ONCE)]
    return torch.cat(parts).numpy()


def _units(features: Features, modality: str) -> torch.Tensor:
    """One row a sample: the mean over its views, of unit length in each modality."""
    parts = [normalize(torch.from_numpy(part.mean(1)), dim=1) for part in features.parts(modality)]
    return normalize(torch.cat(parts, dim=1), dim=1)
