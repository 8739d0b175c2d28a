import numpy as np
import pytest

from xkd.benchmarks import compare_power
from xkd.benchmarks.compare import PAIRS
from xkd.benchmarks.compare_power import COLUMNS, MODULE, PLANTED, RESULTS, main, rates, run_to_run
from xkd.benchmarks.intervals import FEWEST_PAIRS
from xkd.benchmarks.results import append_csv, read_csv


def comparison(planted, generator, noise=0.01):
    """A row as a study writes it, of runs that differ by what was planted and by noise."""

    def numbers(of, scale=1.0):
        return " ".join(f"{value:.6g}" for value in of * scale)

    row = {"planted_percent": str(planted), "load": "0.1", "cpus": "2"}
    for side, slowdown in {"a": 1, "b": 1 + planted / 100}.items():
        for by in ("cpu", "wall"):
            row[f"{side}_{by}_ms"] = numbers(np.exp(noise * generator.normal(size=PAIRS)), 8 * slowdown)
            row[f"{side}_{by}_error"] = numbers(np.zeros(PAIRS))
    return row


def test_what_was_planted_is_found_where_there_is_little_noise_and_nothing_else():
    generator = np.random.default_rng(1)
    rows = [comparison(planted, generator) for _ in range(20) for planted in PLANTED]
    lines = {(line["runs"], line["by"], line["threshold"]): line for line in rates(rows)}
    found = lines[f"{PAIRS} runs each, in turns", "cpu", "1.05"]
    assert (found["nothing"], found["+10 %"], found["+20 %"]) == ("0 of 20", "20 of 20", "20 of 20")
    assert lines[f"{PAIRS} runs each, in turns", "cpu", "1.1"]["+5 %"] == "0 of 20"
    assert lines["one run each, apart", "wall", "1.05"]["+20 %"] == "20 of 20"
    assert run_to_run(rows, "cpu") == pytest.approx(0.01, rel=0.3)


def test_a_study_goes_on_where_it_was_left(tmp_path, capsys):
    generator, path = np.random.default_rng(1), tmp_path / "a.csv"
    rows = [dict.fromkeys(COLUMNS, "") | comparison(planted, generator) | {"repeat": "0"} for planted in PLANTED]
    append_csv(path, rows, COLUMNS)
    assert main(["--repeats", "1", "--csv", str(path)]) == 0  # nothing is left to do
    assert read_csv(path) == rows
    assert "| +20 %" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_study_plants_work_in_runs_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_power, "PLANTED", (20,))
    monkeypatch.setattr(compare_power, "PAIRS", FEWEST_PAIRS)
    assert main(["--repeats", "1", "--csv", str(tmp_path / "a.csv")]) == 0
    (row,) = read_csv(tmp_path / "a.csv")
    assert row["planted_percent"] == "20"
    assert all(len(row[f"{side}_{by}_ms"].split()) == FEWEST_PAIRS for side in "ab" for by in ("cpu", "wall"))


def test_the_committed_study_says_where_it_comes_from_and_has_as_many_of_each_share():
    rows = read_csv(RESULTS)
    counts = [sum(int(row["planted_percent"]) == share for row in rows) for share in PLANTED]
    assert max(counts) - min(counts) <= 1
    assert all(row["commit"] and not row["commit"].endswith("-dirty") and row["command"].endswith(MODULE) for row in rows)
