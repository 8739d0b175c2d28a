"""A study from its file to its table: what is killed goes on, what is finished is kept."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.study.studies import cells_of, write_study

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def study(path, *options):
    return [sys.executable, "-m", "xkd", "study", path, *options]


def scores(cell):
    record = json.loads(cell.record.read_text())
    return {name: record[name] for name in ("accuracy", "correct", "steps", "training", "shards")}


def test_a_study_runs_to_its_table_and_again_starts_nothing(tmp_path):
    path = write_study(tmp_path, seeds=[0])
    done = subprocess.run(study(path, "--workers", "2"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all - recon | 1 |" in done.stdout
    assert "UNFINISHED" not in done.stdout
    recon, both = (json.loads(cell.record.read_text()) for cell in cells_of(path))
    assert "cmkd" in both["training"]
    assert "cmkd" not in recon["training"]
    assert recon["clips"] == 20
    again = subprocess.run(study(path), capture_output=True, text=True)
    assert again.stdout.startswith("2 of 2 cells are finished\n")


def test_a_cell_that_was_killed_goes_on_from_its_checkpoint_to_the_same_numbers(tmp_path):
    whole, cut = (write_study(tmp_path / name, seeds=[0]) for name in ("whole", "cut") if not (tmp_path / name).mkdir())
    run = [*study(whole), "--cell", "all-seed0"]
    subprocess.run(run, check=True, capture_output=True)
    (cell,) = [cell for cell in cells_of(cut) if cell.label == "all-seed0"]
    process = subprocess.Popen([*study(cut), "--cell", "all-seed0"], stdout=subprocess.DEVNULL, start_new_session=True)
    while not (cell.run_dir / "checkpoints" / "latest").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not cell.record.exists()
    subprocess.run([*study(cut), "--cell", "all-seed0"], check=True, capture_output=True)
    (other,) = [cell for cell in cells_of(whole) if cell.label == "all-seed0"]
    assert scores(cell) == scores(other)
    took = json.loads(cell.record.read_text())["took"]
    assert 0 < took["steps"] < scores(cell)["steps"]
