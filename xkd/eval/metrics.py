"""What scores of clips and classes are worth: top-k accuracy, average precision, both by class.

Shapes: N samples, K classes. Scores [N, K] are larger where a class is likelier; targets [N, K] are 1 for the classes of a sample.
"""

import numpy as np
from sklearn.metrics import average_precision_score

from xkd.eval.tasks import Task

TOP = (1, 5)


def score(scores: np.ndarray, targets: np.ndarray, task: Task) -> dict[str, float]:
    """The task's measures in [0, 1]: `top1` and, of more than 5 classes, `top5`; or `map`."""
    if task.multi_label:
        return {"map": float(np.nanmean(average_precision(scores, targets)))}
    return {name: float(hits.mean()) for name, hits in top_hits(scores, targets).items()}


def top_hits(scores: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Whether each sample's class is among the k best [N], for each k that says anything; of equal scores the first class wins."""
    assert np.isfinite(scores).all()
    assert (targets.sum(1) == 1).all()
    labels = targets.argmax(1)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    better = (scores > own).sum(1) + ((scores == own) & before).sum(1)
    return {f"top{k}": better < k for k in TOP if k == 1 or k < scores.shape[1]}


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each class [K], the mean of the precision at its samples' ranks (scikit-learn's); nan where no sample is of it."""
    assert np.isfinite(scores).all()
    found, present = np.full(scores.shape[1], np.nan), targets.any(0)
    if present.any():
        found[present] = average_precision_score(targets[:, present], scores[:, present], average=None)
    return found


def class_accuracy(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Share of each class's samples that are named rightly [K]; nan where there are none."""
    counts = targets.sum(0)
    hits = targets[top_hits(scores, targets)["top1"]].sum(0)
    return np.divide(hits, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def confusion(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How many samples of a class (row) were given which (column), int64 [K, K]."""
    matrix = np.zeros((scores.shape[1],) * 2, np.int64)
    np.add.at(matrix, (targets.argmax(1), scores.argmax(1)), 1)
    return matrix
