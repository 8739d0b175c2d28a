"""Pictures of results: which classes are taken for which, and how well each is told."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xkd.eval.scores import Estimate
from xkd.pipelines.inspect.preview import save

NAMED = 60  # classes whose names fit beside a matrix
INCHES = 0.16  # of a bar


def confusion(records: Sequence[dict], classes: Sequence[str], title: str, out: Path) -> None:
    """The samples of each class (rows) by the class they were taken for, in shares of the row; folds are added up."""
    counts = np.sum([record["confusion"] for record in records], axis=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3 + min(len(classes), NAMED) * INCHES
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    if len(classes) <= NAMED:
        axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=6)
        axis.set_yticks(range(len(classes)), classes, fontsize=6)
    axis.set(xlabel="taken for", ylabel="class", title=title)
    figure.colorbar(image, shrink=0.6, label="share of the class")
    save(figure, out)


def per_class(records: Sequence[dict], classes: Sequence[str], title: str, out: Path) -> None:
    """Each class's accuracy or average precision, the mean over folds, the best on top; those without test samples are left out."""
    values = class_means(records)
    places = [int(place) for place in np.argsort(-values, kind="stable") if not np.isnan(values[place])]
    figure = Figure(figsize=(7, 1.2 + INCHES * len(places)), layout="constrained")
    axis = figure.subplots()
    axis.barh(range(len(places)), 100 * values[places], height=0.8)
    axis.set_yticks(range(len(places)), [classes[place] for place in places], fontsize=6)
    axis.set_ylim(len(places) - 0.5, -0.5)
    axis.set(xlim=(0, 100), xlabel="per cent", title=title)
    save(figure, out)


def accuracies(rows: Mapping[str, Mapping[str, Estimate]], out: Path) -> None:
    """Accuracies {row: {modality: estimate}} as bars with their intervals, one panel a modality."""
    modalities = list(dict.fromkeys(modality for cells in rows.values() for modality in cells))
    figure = Figure(figsize=(4 * len(modalities), 1 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
    for axis, modality in zip(axes, modalities, strict=True):
        for place, cells in enumerate(rows.values()):
            if modality in cells:
                _bar(axis, place, cells[modality], f"C{place}")
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_xlim(0, 112)
        axis.set_xticks(range(0, 101, 20))
        axis.set_title(modality)
        axis.set_xlabel("accuracy [%], 95 % interval", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    save(figure, out)


def class_means(records: Sequence[dict]) -> np.ndarray:
    """Each class's measure, the mean over the folds that have test samples of it, NaN where none has; float [classes]."""
    rows = np.array([record["per_class"] for record in records], float)  # None becomes NaN
    known = ~np.isnan(rows)
    sums, counts = np.where(known, rows, 0).sum(axis=0), known.sum(axis=0)
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)


def _bar(axis, place: int, value: Estimate, colour: str) -> None:
    """A horizontal bar in per cent with its interval and number."""
    mean, low, high = 100 * value.mean, 100 * value.low, 100 * value.high
    axis.barh(place, mean, xerr=[[mean - low], [high - mean]], color=colour, height=0.7, capsize=3, error_kw={"linewidth": 1})
    axis.text(high + 1.5, place, f"{mean:.1f}", va="center", fontsize=8)
