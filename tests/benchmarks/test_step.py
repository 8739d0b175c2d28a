import os
import subprocess
import sys
from pathlib import Path

import pytest

from xkd.benchmarks.harness import Measurement
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.step import OVERHEADS, Lapped, shares

ROOT = Path(__file__).parents[2]
PARTS = ["forward", "backward", "average numbers and clip", "optimizer"]


class Zero:
    def gradients(self, params):
        return params


class Engine:
    param_groups = ("decayed", "plain")
    zero = Zero()

    def forward(self, batch, *, step):
        return batch + step

    def backward(self, loss):
        pass

    def step(self, apply):
        self.applied = apply


def test_the_lapped_engine_does_what_the_engine_does_and_names_each_part_where_it_ends():
    laps, inner = [], Engine()
    engine = Lapped(inner, laps.append)
    assert engine.forward(1, step=2) == 3
    engine.backward(0.5)
    assert engine.zero.gradients(["a", "b"]) == ["a", "b"]
    engine.step(apply=True)
    assert inner.applied
    assert engine.param_groups == ("decayed", "plain")
    assert laps == ["forward", "backward", "average numbers", "clip", "optimizer"]


def test_overheads_are_shares_of_the_whole_step():
    def measured(part, wall_s, cpu_s):
        return Measurement("deepspeed", part, 3, 8.0, wall_s, wall_s, wall_s, cpu_s)

    seconds = {
        "total": 100,
        "forward": 60,
        "optimizer": 30,
        "average numbers": 1,
        "clip": 2,
        "teachers and centres": 3,
        "logging": 4,
    }
    measurements = [measured(part, wall, 10 * wall if part == "clip" else wall) for part, wall in seconds.items()]
    assert shares(measurements, "cuda") == {"average numbers": 0.01, "clip": 0.02, "teachers and centres": 0.03, "logging": 0.04}
    assert shares(measurements, "cpu")["clip"] == 0.2


@pytest.mark.long
def test_the_command_times_every_part_of_real_steps(tmp_path):
    command = [sys.executable, "-m", "xkd", "bench", "step", "--rounds", "1", "--steps", "2"]
    command += [
        "--providers",
        "deepspeed",
        "ddp",
        "--csv",
        str(tmp_path / "rows.csv"),
        "train.global_batch=4",
        "train.accumulation=2",
        "loss.align_group=2",
    ]
    done = subprocess.run(
        command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    rows = read_csv(tmp_path / "rows.csv")
    (total, *parts), of_ddp = ([row for row in rows if row["provider"] == name] for name in ("deepspeed", "ddp"))
    assert [row["part"] for row in of_ddp] == [row["part"] for row in (total, *parts)]
    assert [row["part"] for row in parts] == ["forward", "backward", "average numbers", "clip", "optimizer", *OVERHEADS[2:]]
    assert float(total["items"]) == 8
    assert all(float(row["wall_p50_s"]) > 0 for row in parts)
    assert sum(float(row["wall_p50_s"]) for row in parts) <= float(total["wall_p50_s"]) * (1 + 1e-4)  # rounded in the rows
    assert "Overheads: average numbers" in done.stdout
