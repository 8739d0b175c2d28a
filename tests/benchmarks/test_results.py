from contextlib import nullcontext
from pathlib import Path

import pytest

from xkd.benchmarks import command
from xkd.benchmarks.harness import Measurement
from xkd.benchmarks.needs import GPU, NOTHING, Needs
from xkd.benchmarks.results import COLUMNS, Recorder, append_csv, markdown, read_csv
from xkd.env import gpu_names

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TOTAL = Measurement("ours", "total", 3, 8.0, 0.1, 0.2, 0.4, 0.3, peak_mib=12.5)
PART = Measurement("ours", "forward", 3, 8.0, 0.05, 0.1, 0.2, 0.15)


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setenv("XKD_COMMIT", "0123abc")
    return Recorder.start("loader", ["xkd", "bench", "loader", "--geometry", "a b"])


def test_a_row_says_what_was_measured_and_on_what(recorder):
    (row,) = recorder.rows("batch=8", "clip", [TOTAL])
    assert set(row) == set(COLUMNS)
    expected = {
        "benchmark": "loader",
        "case": "batch=8",
        "items_per_s": "40",
        "cpu_ms_per_item": "37.5",
        "peak_mib": "12.5",
        "device_mib": "",
        "commit": "0123abc",
        "command": "xkd bench loader --geometry 'a b'",
    }
    assert {name: row[name] for name in expected} == expected
    assert all(row[name] for name in ("date", "cpu", "cpus", "load", "python", "torch", "numpy"))


def test_what_cannot_run_has_a_row_with_the_reason_and_no_numbers(recorder):
    def setup(provider):
        assert provider == "ours"
        return nullcontext(lambda lap: 1)

    providers = {"ours": NOTHING, "absent": Needs({"no_such_module": "No-Such"}), "gpu": GPU}
    found = command.measured(recorder, "batch=8", "clip", setup, providers, rounds=1)
    reasons = {row["provider"]: row["not_measured"] for row in found}
    assert reasons["ours"] == ""
    assert reasons["absent"] == "No-Such: No module named 'no_such_module'"
    if not gpu_names():
        assert reasons["gpu"] == "needs a GPU"
    assert all(set(row) == set(COLUMNS) and bool(row["items_per_s"]) != bool(row["not_measured"]) for row in found)


def test_rows_are_appended_below_one_header(recorder, tmp_path):
    path, rows = tmp_path / "results" / "loader.csv", recorder.rows("batch=8", "clip", [TOTAL, PART])
    append_csv(path, rows[:1])
    append_csv(path, rows[1:])
    assert read_csv(path) == rows
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_file_with_other_columns_is_left_alone_and_named(recorder, tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("date,benchmark,speed\n")
    with pytest.raises(ValueError, match=r"old\.csv: its columns differ .*speed.*: write to another file with --csv"):
        append_csv(path, recorder.rows("batch=8", "clip", [TOTAL]))
    assert path.read_text() == "date,benchmark,speed\n"


@pytest.mark.parametrize("benchmark", ["convert", "decode", "features", "loader", "model", "source", "step"])
def test_committed_results_say_where_they_come_from(benchmark):
    rows = read_csv(RESULTS / f"{benchmark}.csv")
    assert rows
    for row in rows:
        assert tuple(row) == COLUMNS
        assert all(row[name] for name in ("date", "cpu", "commit", "command"))
        assert not row["commit"].endswith("-dirty")


def test_a_table_leaves_out_empty_columns_and_keeps_cells_apart():
    table = markdown([{"case": "a|b", "rate": 1, "gpu": ""}, {"case": "c", "rate": 22, "gpu": ""}], ("case", "rate", "gpu"))
    assert table == "| case | rate |\n|------|------|\n| a\\|b | 1    |\n| c    | 22   |\n"
