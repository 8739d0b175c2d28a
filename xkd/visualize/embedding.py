"""A map of the clips of a data set: features brought to two dimensions, coloured by class.

Shapes: N clips, D width.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from xkd.features import BOTH, Features
from xkd.neighbours import knn_hits

MOST_COLOURS = 10  # classes that are told apart by colour: the largest; others are grey
NEIGHBOURS = 20
PERPLEXITY = 30.0
LEAST_CLIPS = 10
OTHERS = "0.8"


def _pca(units_ND: np.ndarray) -> np.ndarray:
    return PCA(2, svd_solver="full").fit_transform(units_ND)


def _tsne(units_ND: np.ndarray) -> np.ndarray:
    perplexity = min(PERPLEXITY, (len(units_ND) - 1) / 3)
    with threadpool_limits(1):  # its threads wait for each other thousands of times: on a busy machine, for minutes
        return TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=0).fit_transform(units_ND)


PROJECTIONS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {  # name: (what a title says of it, function)
    "tsne": (f"t-SNE (perplexity {PERPLEXITY:g}): who is near whom; distances and sizes of clouds mean little", _tsne),
    "pca": ("PCA: the two directions of greatest variance", _pca),
}


def embedding(rows: Mapping[str, Features], classes: Sequence[str], projection: str) -> Figure:
    """Maps of the same clips by the features of several nets, a row each, and by each modality, a column each.

    Raises ValueError where there are too few clips for a map.
    """
    some = next(iter(rows.values()))
    if len(some.labels) < LEAST_CLIPS:
        raise ValueError(f"clips: {len(some.labels)} make no map, of at least {LEAST_CLIPS}: raise it, or give larger shards")
    words, project = PROJECTIONS[projection]
    modalities = some.modalities
    figure = Figure(figsize=(3.6 * len(modalities) + 1.4, 3.5 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(modalities), squeeze=False)
    for line, (name, features) in zip(axes, rows.items(), strict=True):
        for axis, modality in zip(line, modalities, strict=True):
            units_ND = unit_features(features, modality)
            _scatter(axis, project(units_ND), features.labels, classes)
            axis.set_title(f"{name}, {modality}{_said_of(units_ND, features.labels)}", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, markerscale=2)
    figure.suptitle(
        f"{len(some.labels)} clips by their features, each of unit length. {words}.\n"
        f"k-NN: clips whose class the {NEIGHBOURS} nearest others name, by the features themselves, not by the map.",
        fontsize=9,
    )
    return figure


def unit_features(features: Features, modality: str) -> np.ndarray:
    """Features [N, D] of length 1; of "both", of length 1 in each modality and side by side."""
    means = [part.mean(1) for part in (features.parts(BOTH) if modality == BOTH else [features.arrays[modality]])]
    return np.concatenate([mean / np.linalg.norm(mean, axis=1, keepdims=True) for mean in means], axis=1)


def _said_of(units_ND: np.ndarray, labels_N: np.ndarray) -> str:
    known = labels_N >= 0
    if known.sum() < 2:
        return ""
    hits = knn_hits(
        torch.from_numpy(units_ND[known]), torch.from_numpy(labels_N[known]), torch.arange(int(known.sum())), NEIGHBOURS
    )
    return f"\nk-NN {100 * hits.float().mean():.1f} %"


def _scatter(axis, places: np.ndarray, labels_N: np.ndarray, classes: Sequence[str]) -> None:
    """The clips; those of the largest classes in colour, all others, and those without exactly one class, in grey."""
    numbers, counts = np.unique(labels_N[labels_N >= 0], return_counts=True)
    largest = np.sort(numbers[np.argsort(-counts, kind="stable")[:MOST_COLOURS]])
    rest = ~np.isin(labels_N, largest)
    if rest.any():
        axis.scatter(*places[rest].T, s=5, c=OTHERS, linewidths=0, label="others")
    for place, number in enumerate(largest):
        chosen = labels_N == number
        axis.scatter(*places[chosen].T, s=7, color=colormaps["tab10"](place), linewidths=0, label=classes[number][:30])
    axis.set_xticks([])
    axis.set_yticks([])
