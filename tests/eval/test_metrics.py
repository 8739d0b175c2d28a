import numpy as np
import pytest

from xkd.eval.metrics import average_precision, class_accuracy, confusion, score, top_hits
from xkd.eval.tasks import TASKS

ONE, MANY = TASKS["esc50"], TASKS["fsd50k"]


def drawn(samples=200, classes=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=samples)
    return rng.normal(size=(samples, classes)) + np.eye(classes)[labels], np.eye(classes, dtype=np.uint8)[labels]


def precision_at_ranks(scores, targets):
    """Average precision of one class, written out: the mean of the precision at the rank of each of its samples."""
    order = sorted(range(len(scores)), key=lambda sample: -scores[sample])
    precisions, found = [], 0
    for rank, sample in enumerate(order, start=1):
        if targets[sample]:
            found += 1
            precisions.append(found / rank)
    return sum(precisions) / len(precisions)


def test_map_is_the_mean_over_classes_of_the_precision_at_each_rank():
    rng = np.random.default_rng(3)
    scores, targets = rng.normal(size=(60, 7)), (rng.random((60, 7)) < 0.2).astype(np.uint8)
    expected = [precision_at_ranks(scores[:, label], targets[:, label]) for label in range(7)]
    np.testing.assert_allclose(average_precision(scores, targets), expected)
    assert score(scores, targets, MANY) == {"map": pytest.approx(np.mean(expected))}


def test_a_class_without_test_samples_counts_in_no_mean():
    scores, targets = drawn(classes=4)
    scores, targets = np.pad(scores, ((0, 0), (0, 1))), np.pad(targets, ((0, 0), (0, 1)))
    assert np.isnan(average_precision(scores, targets)[4])
    assert score(scores, targets, MANY)["map"] == pytest.approx(average_precision(scores, targets)[:4].mean())
    assert np.isnan(class_accuracy(scores, targets)[4])


def test_top_k_counts_the_samples_whose_class_is_among_the_k_best():
    scores, targets = drawn()
    best = np.argsort(-scores, axis=1)
    found = score(scores, targets, ONE)
    for name, k in (("top1", 1), ("top5", 5)):
        expected = [label in row[:k] for label, row in zip(targets.argmax(1), best, strict=True)]
        assert found[name] == pytest.approx(np.mean(expected))
    assert 0 < found["top1"] < found["top5"] < 1


def test_top_5_of_five_classes_says_nothing_and_is_left_out():
    assert list(score(*drawn(classes=5), ONE)) == ["top1"]


def test_equal_scores_are_decided_as_argmax_decides():
    scores, targets = np.zeros((6, 6)), np.eye(6, dtype=np.uint8)
    assert top_hits(scores, targets)["top1"].tolist() == [True] + [False] * 5
    assert top_hits(scores, targets)["top5"].tolist() == [True] * 5 + [False]


def test_confusion_and_class_accuracy_agree_with_top_1():
    scores, targets = drawn()
    matrix = confusion(scores, targets)
    np.testing.assert_array_equal(matrix.sum(1), targets.sum(0))
    np.testing.assert_allclose(class_accuracy(scores, targets), matrix.diagonal() / matrix.sum(1))
    assert matrix.trace() / matrix.sum() == pytest.approx(score(scores, targets, ONE)["top1"])
