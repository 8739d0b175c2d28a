import pytest

from xkd.benchmarks import gpu_check, gpu_table
from xkd.benchmarks.findings import Findings
from xkd.benchmarks.gpu_checks import CHECKS
from xkd.benchmarks.gpu_report import Outcome, outcome_rows
from xkd.benchmarks.gpu_table import NEVER, RESULTS, keep, table
from xkd.benchmarks.results import Recorder, read_csv


def rows(*outcomes, date):
    machine = Recorder.start("", []).machine | {"gpus": ["H100"], "commit": "abc"}
    ended = [Outcome(name, status, "", 1.0, Findings()) for name, status in outcomes]
    return list(outcome_rows(ended, Recorder("gpu-check", "make gpu-check", machine, 0.0, date)))


def line(text, check):
    (found,) = [line for line in text.splitlines() if f"`{check}`" in line]
    return found


def test_every_check_has_a_row_and_without_a_run_it_was_never_measured():
    text = table([])
    assert all(check.what in line(text, check.name) for check in CHECKS)
    assert text.count(NEVER) == sum(bool(check.needs) for check in CHECKS)


def test_a_row_tells_the_last_run_that_was_no_skip():
    text = table(
        [
            *rows(("train", "failed"), date="2026-01-01T00:00:00"),
            *rows(("train", "cut short"), ("decode-nvdec", "skipped"), date="2026-02-03T00:00:00"),
            *rows(("train", "skipped"), date="2026-03-03T00:00:00"),
        ]
    )
    assert "cut short, 2026-02-03, H100, commit abc" in line(text, "train")
    assert NEVER in line(text, "decode-nvdec")


def test_what_a_run_found_is_kept_beside_what_was_kept_before(tmp_path):
    out, results = tmp_path / "out", tmp_path / "results"
    for _ in range(2):
        gpu_check.run_all(out, None, ["host"], times=20)
        keep(out, results)
    assert [row["check"] for row in read_csv(results / gpu_table.KEPT)] == ["host", "host"]
    assert (results / gpu_table.KEPT_REPORT).read_text() == (out / gpu_check.REPORT).read_text()


def test_the_page_shows_the_table_of_what_is_kept():
    page = (RESULTS.parent.parent / "docs" / "gpu.md").read_text()
    assert table() in page, "run `python -m xkd.benchmarks.tables`"


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no checks\.csv"):
        keep(tmp_path)
