"""What the benchmark commands share: common options, and what becomes of the rows."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from xkd.benchmarks.harness import Setup, measure
from xkd.benchmarks.needs import Needs
from xkd.benchmarks.results import COLUMNS, SHOWN, Recorder, Row, append_csv, markdown


def parser(benchmark: str, description: str, *, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"xkd bench {benchmark}", description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"timed rounds of each provider (default {rounds})")
    parser.add_argument(
        "--csv",
        type=Path,
        default=Path("benchmarks/results") / f"{benchmark}.csv",
        help="file to append rows to (default %(default)s)",
    )
    return parser


def recorder(benchmark: str, arguments: Sequence[str]) -> Recorder:
    return Recorder.start(benchmark, ["xkd", "bench", benchmark, *arguments])


def measured(recorder: Recorder, case: str, unit: str, setup: Setup, providers: Mapping[str, Needs], **settings) -> list[Row]:
    """The rows of the providers that can run here, measured in turn, then a row with the reason for each that cannot."""
    reasons = {name: needs.missing() for name, needs in providers.items()}
    ready = [name for name, reason in reasons.items() if reason is None]
    versions = {name: providers[name].versions() for name in ready}
    rows = recorder.rows(case, unit, measure(setup, ready, **settings), versions) if ready else []
    return rows + [recorder.absent(case, unit, name, reason) for name, reason in reasons.items() if reason]


def finish(rows: Sequence[Row], csv: Path, columns: Sequence[str] = COLUMNS, shown: Sequence[str] = SHOWN) -> None:
    """Appends the rows to the file and prints some columns of them."""
    append_csv(csv, rows, columns)
    print(markdown(rows, shown), end="")
    print(f"{len(rows)} rows added to {csv}")
