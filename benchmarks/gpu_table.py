"""The table of docs/gpu.md: what `make gpu-check` checks, and when it did so last, on what; keeps what a run of it has found."""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from xkd.benchmarks.gpu_check import REPORT, ROWS, TABLE
from xkd.benchmarks.gpu_checks import CHECKS, Check
from xkd.benchmarks.gpu_report import RECORDED, SKIPPED
from xkd.benchmarks.results import Row, append_csv, read_csv

RESULTS = Path(__file__).parent / "results"
KEPT, KEPT_ROWS, KEPT_REPORT = "gpu_checks.csv", "gpu_check.csv", "gpu_check.md"
NEVER = "never: needs a GPU"


def table(rows: Sequence[Row] | None = None) -> str:
    """A row for each check: what it finds out, and its last run among `rows` (by default those that are kept) that was no skip."""
    if rows is None:
        rows = read_csv(RESULTS / KEPT) if (RESULTS / KEPT).exists() else []
    last = {row["check"]: row for row in rows if row["outcome"] != SKIPPED}
    lines = [f"| {check.what} | `{check.name}` | {_measured(check, last)} |" for check in CHECKS]
    return "\n".join(["| what | check | measured |", "|---|---|---|", *lines]) + "\n"


def _measured(check: Check, last: Mapping[str, Row]) -> str:
    row = last.get(check.name)
    if row:
        return f"{row['outcome']}, {row['date'][:10]}, {row['gpu'] or 'no GPU'}, commit {row['commit'][:12]}"
    return NEVER if check.needs else "needs no GPU"


def keep(folder: Path, results: Path = RESULTS) -> None:
    """Adds what a run of gpu_check left in `folder` to the committed results; its report replaces the one before."""
    if not (folder / TABLE).is_file():
        raise ValueError(f"{folder}: holds no {TABLE}: name the folder that `make gpu-check` has written")
    append_csv(results / KEPT, read_csv(folder / TABLE), RECORDED)
    append_csv(results / KEPT_ROWS, read_csv(folder / ROWS))
    shutil.copy(folder / REPORT, results / KEPT_REPORT)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m xkd.benchmarks.gpu_table", description="Keep what gpu_check has found among the committed results."
    )
    parser.add_argument("folder", type=Path, help="what gpu_check has written")
    keep(parser.parse_args(arguments).folder)
    print(f"kept in {RESULTS}, {KEPT}, {KEPT_ROWS} and {KEPT_REPORT}: run `python -m xkd.benchmarks.tables`, and commit")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
