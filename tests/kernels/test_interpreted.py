"""The kernels' own tests pass in Triton's interpreter, which needs a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FUSED = Path(__file__).parent / "fused"


@pytest.mark.parametrize("marked", ["not soak and not gpu", pytest.param("soak and not gpu", marks=pytest.mark.soak)])
def test_the_kernels_agree_with_float64_in_the_interpreter(marked):
    command = [sys.executable, "-m", "pytest", "-q", "-m", marked, "-p", "no:cacheprovider", str(FUSED)]
    run = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, cwd=FUSED.parents[2])
    print(run.stdout[-4000:])
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
