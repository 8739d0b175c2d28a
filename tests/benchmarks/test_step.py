import os
import subprocess
import sys
from pathlib import Path

import pytest

from xkd.benchmarks.results import read_csv
from xkd.benchmarks.step import LappedEngine

ROOT = Path(__file__).parents[2]
PARTS = ["forward", "backward", "average numbers and clip", "optimizer"]


class Engine:
    param_groups = ("decayed", "plain")

    def forward(self, batch):
        return batch + 1

    def backward(self, loss):
        pass

    def step(self, apply):
        self.applied = apply


def test_the_lapped_engine_does_what_the_engine_does_and_names_each_part_where_it_ends():
    laps = []
    inner = Engine()
    engine = LappedEngine(inner, laps.append)
    assert engine.forward(1) == 2
    engine.backward(0.5)
    engine.step(True)
    assert inner.applied
    assert engine.param_groups == ("decayed", "plain")
    assert laps == PARTS


@pytest.mark.long
def test_the_command_times_every_part_of_real_steps(tmp_path):
    command = [sys.executable, "-m", "xkd", "bench", "step", "--rounds", "1", "--steps", "2", "--csv", str(tmp_path / "rows.csv")]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    total, *parts = read_csv(tmp_path / "rows.csv")
    assert [row["part"] for row in parts] == [
        "forward",
        "backward",
        "average numbers and clip",
        "optimizer",
        "teachers and centres",
    ]
    assert float(total["items"]) == 32
    assert all(float(row["wall_p50_s"]) > 0 for row in parts)
    assert sum(float(row["wall_p50_s"]) for row in parts) <= float(total["wall_p50_s"]) * (1 + 1e-4)  # rounded in the rows
