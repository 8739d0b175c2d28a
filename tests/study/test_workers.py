"""The processes of a study: so many at once, each cell once, asked to save when the study is."""

import os
import signal
import sys
import threading
import time

import pytest

from tests.study.studies import cells_of, write_record, write_study
from xkd.study.run import Workers, run_study

# What stands for `xkd study STUDY` here is given the label of its cell as its last argument.
DONE = "pass"
ALL_FAIL = "import sys; sys.exit(3 if sys.argv[-1].startswith('all') else 0)"
UNTIL_ASKED = """
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1]) / sys.argv[-1]
signal.signal(signal.SIGTERM, lambda *_: (place.write_text('saved'), sys.exit(75)))
place.write_text('at work')
time.sleep(60)
"""


@pytest.fixture
def cells(tmp_path):
    return cells_of(write_study(tmp_path))


def run(cells, script, count, tmp_path):
    said = []
    with Workers(count, [sys.executable, "-c", script, str(tmp_path)], tmp_path / "logs", said.append) as workers:
        return workers.run(cells), said


def test_every_cell_is_started_once(cells, tmp_path):
    code, said = run(cells, DONE, 2, tmp_path)
    assert code == 0
    assert sorted(line for line in said if "begins" not in line) == sorted(f"{cell.label}: done, {cell.record}" for cell in cells)


def test_a_cell_that_fails_keeps_none_from_being_tried(cells, tmp_path):
    code, said = run(cells, ALL_FAIL, 1, tmp_path)
    assert code == 1
    assert sum("failed with exit code 3" in line for line in said) == 2
    assert sum(": done" in line for line in said) == 2


def test_a_study_that_is_asked_to_stop_lets_its_cells_save_and_begins_no_more(cells, tmp_path):
    at_work = [tmp_path / cell.label for cell in cells[:2]]

    def ask():
        while not all(path.exists() and path.read_text() for path in at_work):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    code, said = run(cells, UNTIL_ASKED, 2, tmp_path)
    assert code == 75
    assert [path.read_text() for path in at_work] == ["saved", "saved"]
    assert sum("begins" in line for line in said) == 2


def test_a_finished_study_starts_nothing(cells, tmp_path):
    for cell in cells:
        write_record(cell, [1, 0])
    said = []
    assert run_study(cells, [], 1, said.append) == 0
    assert said == ["4 of 4 cells are finished"]
    assert not (tmp_path / "work").exists()
