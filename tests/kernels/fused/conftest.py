"""The Triton kernels against float64, on a GPU; or, with TRITON_INTERPRET=1, in Triton's interpreter (test_interpreted.py)."""

import pytest

from xkd.kernels.choice import INTERPRETED, VARIABLE


def pytest_collection_modifyitems(items):
    if not INTERPRETED:
        for item in items:
            if "tests/kernels/fused/" in item.path.as_posix():
                item.add_marker(pytest.mark.gpu)


@pytest.fixture
def device():
    return "cpu" if INTERPRETED else "cuda"


@pytest.fixture(autouse=True)
def triton_only(monkeypatch):
    """No test here may be answered by torch."""
    monkeypatch.setenv(VARIABLE, "triton")
