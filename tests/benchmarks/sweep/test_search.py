"""The search on one rank with small work of its own, and the command with the real loader, real steps and two ranks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from xkd.benchmarks.harness import Measurement
from xkd.benchmarks.results import COLUMNS, Recorder, append_csv, read_csv
from xkd.benchmarks.sweep.best import as_yaml, best_of, overrides_of
from xkd.benchmarks.sweep.crew import crew
from xkd.benchmarks.sweep.search import Sweep, over_ranks, search
from xkd.benchmarks.sweep.space import text
from xkd.benchmarks.sweep.targets import Target
from xkd.config import load
from xkd.jobs import schemas
from xkd.train.distributed import Place

ROOT = Path(__file__).parents[3]
DEMO = "pretrain/demo.yaml"
ALONE = Place(0, 0, 1)


def multiply(task):
    """A matrix product for each clip of a batch; batches of 8 fail."""
    clips = task.config.train.global_batch
    if clips == 8:
        raise MemoryError
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(clips):
        np.ones((64, 64)) @ np.ones((64, 64))
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return Measurement("any", "total", 1, clips, seconds, seconds, seconds, cpu_s, cpu_p20_s=cpu_s, cpu_p80_s=cpu_s, peak_mib=1.0)


def sweep_of(axes, overrides=()):
    target = Target("numpy", lambda config, ranks: {}, multiply)
    return Sweep(target, "step", DEMO, overrides, axes, rounds=1, size=1, point_seconds=120)


AXES = {"train.global_batch": ("16", "8"), "data.pipelines": ("1", "0")}


@pytest.fixture(scope="module")
def recorder():
    """One for all: the checkout may get another commit meanwhile."""
    return Recorder.start("sweep", ["xkd"])


@pytest.fixture
def run(recorder):
    def run(path, axes=AXES, budget_seconds=600.0):
        with crew(ALONE) as drivers:
            return search(sweep_of(axes), drivers, recorder, path, seed=0, budget_seconds=budget_seconds)

    return run


def test_every_point_has_a_row_and_a_second_start_measures_nothing_again(run, tmp_path, capsys):
    rows = run(tmp_path / "sweep.csv")
    reasons = {text(point): row["not_measured"] for point, row in rows.items()}
    assert len(rows) == 4
    assert reasons["train.global_batch=16 data.pipelines=1"] == ""
    assert reasons["train.global_batch=8 data.pipelines=1"] == "out of memory"
    assert all("data.pipelines" in reasons[f"train.global_batch={batch} data.pipelines=0"] for batch in (8, 16))
    written = read_csv(tmp_path / "sweep.csv")
    assert written[0]["case"].endswith("train.global_batch=16 data.pipelines=1")
    assert run(tmp_path / "sweep.csv") == rows
    assert read_csv(tmp_path / "sweep.csv") == written
    assert capsys.readouterr().out.count("clips/s") == 1


def test_a_spent_budget_begins_no_point_and_rows_of_another_commit_do_not_count(run, recorder, tmp_path):
    assert run(tmp_path / "sweep.csv", budget_seconds=-1) == {}
    sweep = sweep_of({"train.global_batch": ("16",)})
    case = sweep.case((("train.global_batch", "16"),), 1)
    other = recorder.absent(case, "clip", "numpy", "old") | {"commit": "another"}
    append_csv(tmp_path / "sweep.csv", [other])
    (row,) = run(tmp_path / "sweep.csv", sweep.axes).values()
    assert row["not_measured"] == ""


def row(items_per_s, p20, p80):
    facts = {"items": "100", "items_per_s": str(items_per_s), "wall_p20_s": str(p20), "wall_p80_s": str(p80), "case": "all of it"}
    return dict.fromkeys(COLUMNS, "") | facts


def test_the_yaml_of_the_best_loads_to_it_and_names_what_is_as_fast(tmp_path):
    points = [(("codec", codec), ("data.pipelines", "4")) for codec in ("vp9", "mjpeg", "h264")]
    found = best_of(dict(zip(points, [row(50, 1.9, 2.1), row(100, 0.9, 1.2), row(90, 1.1, 1.3)], strict=True)))
    assert found.point == points[1]
    assert list(found.as_fast) == [points[2]]
    written = as_yaml(found, DEMO, ["train.epochs=3"], prefetch=2, measured=3)
    assert "--codec mjpeg" in written
    (tmp_path / "best.yaml").write_text(written)
    assert load(tmp_path / "best.yaml", [], schemas()) == load(
        DEMO, ["train.epochs=3", "data.pipelines=4", "data.prefetch=4"], schemas()
    )
    assert best_of({points[0]: row("", "", "") | {"items_per_s": ""}}) is None


def test_more_pipelines_than_batches_ahead_take_as_many_batches():
    assert overrides_of((("data.pipelines", "2"),), prefetch=2) == ["data.pipelines=2"]
    assert overrides_of((("data.pipelines", "3"), ("gop", "8")), prefetch=2) == ["data.pipelines=3", "data.prefetch=3"]


def test_ranks_are_as_slow_as_the_slowest_and_use_what_they_use_together():
    one = Measurement("a", "total", 3, 64, 1.0, 2.0, 3.0, 4.0, cpu_p20_s=3.5, cpu_p80_s=4.5, peak_mib=100)
    other = Measurement("a", "total", 3, 64, 1.5, 1.8, 2.0, 5.0, cpu_p20_s=4.5, cpu_p80_s=5.5, peak_mib=90)
    found = over_ranks([one, other])
    assert (found.items, found.wall_p20_s, found.wall_p50_s, found.wall_p80_s) == (64, 1.5, 2.0, 3.0)
    assert (found.cpu_s, found.cpu_p20_s, found.cpu_p80_s, found.peak_mib) == (9.0, 8.0, 10.0, 100)


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        ({"data.pipeline": ("1", "2")}, "data.pipeline"),
        ({"codec": ("vp9",)}, "--vary: codec is of the shards"),
        ({"train.global_batch": ("none",)}, "train.global_batch"),
    ],
)
def test_an_axis_that_nothing_can_be_set_on_is_refused_before_anything_runs(axes, says):
    with pytest.raises(ValueError, match=says):
        sweep_of(axes).check_axes()


def sweep_command(tmp_path, *words, start=("-m", "xkd")):
    command = [
        sys.executable,
        *start,
        "bench",
        "sweep",
        *words,
        "--only",
        "--rounds",
        "1",
        "--csv",
        "sweep.csv",
        "--best",
        "best.yaml",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_csv(tmp_path / "sweep.csv"), load(tmp_path / "best.yaml", [], schemas())


@pytest.mark.long
def test_the_loader_is_swept_over_forms_of_shards_and_its_own_settings(tmp_path):
    axes = ["--vary", "codec=mjpeg,h264", "--vary", "data.num_threads=1,2"]
    rows, best = sweep_command(tmp_path, "loader", *axes, "--size", "2", "train.global_batch=4")
    assert len(rows) == 4
    for row in rows:
        assert bool(row["items_per_s"]) == ("codec=mjpeg" in row["case"])
        assert ("DALI decodes no h264" in row["not_measured"]) == ("codec=h264" in row["case"])
    assert best.data.num_threads in (1, 2)


@pytest.mark.long
def test_steps_are_swept_on_two_ranks_and_a_refused_combination_is_a_row(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "xkd")
    axes = ["--vary", "deepspeed.zero_stage=1,2", "--vary", "train.global_batch=4,5"]
    rows, best = sweep_command(tmp_path, "step", *axes, "--size", "1", "loss.align_group=2", start=torchrun)
    assert len(rows) == 4
    for row in rows:
        assert "ranks=2" in row["case"]
        assert bool(row["items_per_s"]) == ("global_batch=4" in row["case"])
        assert ("cannot be dealt evenly" in row["not_measured"]) == ("global_batch=5" in row["case"])
    assert best.train.global_batch == 4
