"""The Triton kernels against float64, on a GPU; or, with TRITON_INTERPRET=1, in Triton's interpreter (test_interpreted.py)."""

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

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


@pytest.fixture(autouse=True)
def bfloat16_is_rounded(monkeypatch):
    """Triton 3.6's interpreter cuts bfloat16 off; a GPU rounds to nearest, and the errors of many operations then cancel."""
    cut_off = InterpreterBuilder.create_fp_trunc

    def create_fp_trunc(self, src, dst_type):
        if (src.dtype.scalar, dst_type.scalar) != (tl.float32, tl.bfloat16):
            return cut_off(self, src, dst_type)
        rounded = torch.tensor(src.data).to(torch.bfloat16).view(torch.int16).numpy()
        return TensorHandle(rounded.view(np.uint16), tl.bfloat16)

    monkeypatch.setattr(InterpreterBuilder, "create_fp_trunc", create_fp_trunc)
