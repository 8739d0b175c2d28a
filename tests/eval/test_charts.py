import numpy as np
from matplotlib.image import imread

from xkd.eval.charts import class_means, confusion, per_class


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
