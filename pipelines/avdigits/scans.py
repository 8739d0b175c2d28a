"""The handwritten digits (scikit-learn's copy of the UCI scans), split so that no scan serves both training and testing."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits

SPLITS = ("train", "test")
CLASSES = 10
SIDE = 8  # pixels of a scan


@cache
def scans(split: str) -> tuple[np.ndarray, ...]:
    """Scans of a split by class, each [n, 8, 8] float32 in [0, 1]: every fourth scan is for testing, the rest for training."""
    digits = load_digits()
    is_test = np.arange(len(digits.target)) % 4 == 3
    mine = is_test if split == "test" else ~is_test
    return tuple((digits.images[mine & (digits.target == label)] / 16).astype(np.float32) for label in range(CLASSES))
