import numpy as np
import pytest
from matplotlib.image import imread

from xkd.eval.charts import accuracies, class_means, confusion, per_class
from xkd.eval.scores import Estimate


def test_classes_are_averaged_over_the_folds_that_have_them():
    records = [{"per_class": [1.0, None, None, 0.5]}, {"per_class": [0.5, 0.25, None, 0.5]}]
    assert np.array_equal(class_means(records), [0.75, 0.25, np.nan, 0.5], equal_nan=True)


def test_both_pictures_are_drawn_for_few_and_many_classes(tmp_path):
    for number in (2, 100):
        counts = np.eye(number, dtype=int).tolist()
        classes = [f"class {place}" for place in range(number)]
        confusion([{"confusion": counts}] * 2, classes, "a title", tmp_path / "confusion.png")
        per_class([{"per_class": [0.5, None] * (number // 2)}], classes, "a title", tmp_path / "classes.png")
        assert all(imread(tmp_path / name).std() > 0.05 for name in ("confusion.png", "classes.png"))


def test_the_accuracy_chart_draws_a_longer_bar_for_a_better_row(tmp_path):
    def width_of_first_bar(mean):
        accuracies({"net": {"video": Estimate(mean, mean, mean)}}, tmp_path / "chart.png")
        colours = imread(tmp_path / "chart.png")[..., :3].reshape(-1, 3)
        return (np.abs(colours - np.array([0x1F, 0x77, 0xB4]) / 255).max(axis=1) < 0.02).sum()

    assert width_of_first_bar(0.8) == pytest.approx(2 * width_of_first_bar(0.4), rel=0.05)
