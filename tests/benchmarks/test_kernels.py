import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xkd.benchmarks.harness import Measurement
from xkd.benchmarks.kernel_cases import CASES, OPS, forward_and_backward, tensors
from xkd.benchmarks.kernel_gains import FUSED, TORCH, in_torch, rows_of
from xkd.benchmarks.kernel_plots import plot
from xkd.benchmarks.results import read_csv
from xkd.kernels import mmd

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op} {case.name}")
def test_every_case_can_be_run_forward_and_backward(case):
    arguments = case.make(2, torch.float32, "cpu")
    out, gradients = forward_and_backward(case.function, arguments)
    assert all(each.isfinite().all() for each in (*tensors(out), *gradients))
    assert case.traffic(arguments) >= case.backward_traffic(arguments) > 0


def test_every_op_has_its_cases():
    assert set(OPS) == {"random_mask", "patch_gather", "masked_recon_loss", "decoder_assemble", "mmd", "distill_ce"}


def test_a_gather_must_read_the_chosen_patches_their_numbers_and_the_levels():
    (case,) = (case for case in CASES if (case.op, case.name) == ("patch_gather", "video uint8"))
    assert case.traffic(case.make(2, torch.float32, "cpu")) == 2 * 59 * (3072 + 8) + 2 * 3 * 4


def measured(provider, milliseconds):
    seconds = milliseconds / 1000
    return Measurement(provider, "total", 3, 1, seconds, seconds, seconds, seconds)


def test_a_kernel_that_gains_a_step_little_is_listed_so():
    milliseconds = dict.fromkeys(OPS, 100.5) | {FUSED: 100, TORCH: 200, "mmd": 125}
    rows = {row["kernel"]: row for row in rows_of([measured(*each) for each in milliseconds.items()])}
    assert (rows["mmd"]["gain"], rows["mmd"]["note"]) == ("0.2", "")
    assert rows["distill_ce"]["note"] == "gains the step less than 1%"
    assert rows["all"]["gain"] == "0.5"


def test_one_op_can_be_left_to_torch_for_a_while():
    kept = mmd.use_triton
    with in_torch("mmd"):
        assert not mmd.use_triton("mmd", torch.zeros(1))
    assert mmd.use_triton is kept


def partition(rows):
    """Rows of other providers, and of the fused kernels."""
    return [[row for row in rows if (row["provider"] == "fused") == fused] for fused in (False, True)]


@pytest.mark.long
def test_the_command_times_eager_and_compile_here_and_has_a_row_for_the_fused(tmp_path):
    arguments = ["--ops", "distill_ce", "--batches", "1", "2", "--rounds", "3", "--csv", str(tmp_path / "rows.csv")]
    providers = ["--providers", "eager", "compile", "fused", "--plot", str(tmp_path / "plot.png")]
    command = [sys.executable, "-m", "xkd", "bench", "kernels", *arguments, *providers]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "no GPU: what the fused kernels gain a whole step is left out" in result.stdout
    rows, fused = partition(read_csv(tmp_path / "rows.csv"))
    assert [(row["batch"], row["not_measured"], row["p50_us"]) for row in fused] == [(size, "needs a GPU", "") for size in "12"]
    assert {row["provider"] for row in rows} == {"eager", "compile"}
    assert {row["part"] for row in rows} == {"forward", "backward", "both"}
    assert all(0 < float(row["p20_us"]) <= float(row["p50_us"]) <= float(row["p80_us"]) for row in rows)
    plot(rows, tmp_path / "again.svg")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert "distill_ce, step: forward + backward" in (tmp_path / "again.svg").read_text()
