import os
import subprocess
import sys
from pathlib import Path

import pytest

from xkd.benchmarks.memory import CASE, table
from xkd.benchmarks.results import read_csv

ROOT = Path(__file__).parents[2]


def test_the_table_has_the_newest_row_of_each_case():
    rows = [
        dict(zip(CASE, ("tiny", "fp32", stage, "1", "4"), strict=True))
        | {
            "measured_mib": measured,
            "planned_mib": "100",
            "planned_over_measured": "1.0",
            "cpu": "EPYC",
            "date": "2026-11-23T00:00:00",
        }
        | {"commit": "0123456789"}
        for stage, measured in (("0", "90"), ("1", "95"), ("0", "100"))
    ]
    told = table(rows)
    assert told.count("| tiny |") == 2
    assert "| 90 " not in told
    assert told.endswith("MiB of a rank; EPYC, 2026-11-23, at 0123456.\n")


@pytest.mark.long
def test_the_plan_is_near_what_real_steps_hold(tmp_path):
    """A sum of peaks, so rather too much than too little."""
    smaller = ("data.clip_seconds=1", "data.video.global_view.size=48", "data.video.local_view.size=48")
    command = [
        sys.executable,
        "-m",
        "xkd",
        "bench",
        "memory",
        "model.size=tiny",
        "train.global_batch=4",
        "loss.align_group=2",
        *smaller,
    ]
    command += ["--stages", "0", "1", "--rounds", "1", "--csv", str(tmp_path / "memory.csv")]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    rows = read_csv(tmp_path / "memory.csv")
    assert [row["stage"] for row in rows] == ["0", "1"]
    assert all(0.85 < float(row["planned_over_measured"]) < 1.3 for row in rows)
