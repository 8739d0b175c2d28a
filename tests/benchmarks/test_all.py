import argparse
import time
from importlib import import_module

import pytest

from xkd.benchmarks.all import DONE, RUNS, Machine, Outcome, Run, main, run_one, summary
from xkd.benchmarks.results import read_csv
from xkd.commands.bench import BENCHMARKS

NOT_RUN = {"all", "scaling", "sweep"}  # read or run the others
MACHINES = [Machine(gpus=0, memory_gib=16), Machine(gpus=8, memory_gib=1000)]


class Parsed(Exception):
    """The arguments were understood."""


def test_every_benchmark_of_the_command_line_is_run():
    assert {run.benchmark for run in RUNS} == set(BENCHMARKS) - NOT_RUN


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.benchmark)
@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
def test_the_arguments_are_understood_on_machines_with_and_without_gpus(run, machine, quick, tmp_path, monkeypatch):
    def parse_args(parser, arguments):
        parse(parser, arguments)
        raise Parsed

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    name, *arguments = run.command(machine, tmp_path, quick)
    with pytest.raises(Parsed):
        import_module(f"xkd.benchmarks.{name}").main(arguments)
    assert arguments[-2:] == ["--csv", str(tmp_path / f"{name}.csv")]


def test_what_fails_does_not_keep_others_from_running_and_makes_the_exit_code_1(tmp_path, capfd):
    failing = Run("convert", lambda machine: ["--clips", "many"])
    outcome = run_one(failing, MACHINES[0], tmp_path, quick=False, limit_minutes=1, source=None)
    assert outcome.outcome == "failed: exit code 2, its error is above"
    assert "invalid int value: 'many'" in capfd.readouterr().err
    table = summary([outcome, Outcome("decode", DONE, 1.25, 14)])
    assert "| decode    | done " in table


def test_what_is_too_large_for_the_memory_is_left_out_and_says_so(tmp_path):
    huge = Run("convert", lambda machine: (), memory_gib=10**6)
    outcome = run_one(huge, MACHINES[0], tmp_path, quick=True, limit_minutes=1, source=None)
    assert outcome.outcome.startswith("left out: needs 1e+06 GiB of memory, ")


def test_what_takes_too_long_is_stopped(tmp_path):
    start = time.monotonic()
    long = Run("source", lambda machine: ["--rounds", "1000000"])
    outcome = run_one(long, MACHINES[0], tmp_path, quick=False, limit_minutes=0.02, source=None)
    assert outcome.outcome == "stopped after 0.02 minutes, unfinished"
    assert time.monotonic() - start < 60


@pytest.mark.long
def test_the_command_runs_some_into_a_folder(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XKD_COMMIT", "0123abc")
    assert main(["--quick", "--only", "convert", "--out", str(tmp_path)]) == 0
    rows = read_csv(tmp_path / "convert.csv")
    assert {row["commit"] for row in rows} == {"0123abc"}
    assert "| convert   | done    | " in capfd.readouterr().out
    assert {row["provider"] for row in rows} >= {"convert", "decode"}


def test_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="start `xkd bench all` without a launcher"):
        main([])
