import pytest

from xkd.benchmarks.harness import Measurement
from xkd.benchmarks.repeats import repeats, table
from xkd.benchmarks.results import Recorder


def run(date, commit, ours, peer, spread=0.01):
    """The rows of a run of two pieces of work, in which a round takes ours and a peer so many seconds."""
    machine = dict.fromkeys(("python", "torch", "dali", "deepspeed", "av", "triton", "numpy"), "1")
    recorder = Recorder(
        "step", "xkd bench step", machine | {"cpu": "a", "cpus": 2, "gpus": [], "commit": commit}, load=1.5, date=date
    )

    def measured(provider, seconds):
        low, high = seconds * (1 - spread), seconds * (1 + spread)
        return Measurement(provider, "total", 5, 8.0, low, seconds, high, seconds, cpu_p20_s=low, cpu_p80_s=high)

    return [row for case in "ab" for row in recorder.rows(case, "clip", [measured("deepspeed", ours), measured("ddp", peer)])]


def test_the_ratios_of_the_last_two_runs_of_a_commit_are_set_side_by_side():
    rows = run("1", "x", 1.0, 1.5) + run("2", "y", 1.0, 0.8) + run("3", "y", 2.0, 1.7)
    (found,) = repeats(rows)
    assert (found.benchmark, found.peer, len(found.first)) == ("step", "ddp", 2)
    assert found.apart == pytest.approx(0.85 / 0.8 - 1)
    assert "| ddp  | 2              | 0.800     | 0.850      | 6.2%  |" in table([found])
    assert found.load == "1.5 and 1.5"


def test_noise_grows_with_the_spread_of_the_rounds_and_shrinks_with_the_pieces_of_work():
    def noise(spread, works=2):
        rows = [row for row in run("1", "x", 1, 1, spread) + run("2", "x", 1, 1, spread) if row["case"] in "ab"[:works]]
        return next(repeats(rows)).noise

    assert noise(0.02) == pytest.approx(2 * noise(0.01), rel=0.05)
    assert noise(0.01, works=1) == pytest.approx(2**0.5 * noise(0.01), rel=0.05)


def test_runs_of_different_commits_and_single_runs_are_no_repeats():
    assert list(repeats(run("1", "x", 1, 2))) == []
    assert list(repeats(run("1", "x", 1, 2) + run("2", "y", 1, 2))) == []
    assert table([]) == ""
