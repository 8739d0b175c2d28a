"""Rows of results: measurements with the machine, versions, commit and command they came from, kept in CSV files."""

import csv
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from xkd.benchmarks.harness import Measurement
from xkd.env import environment

_VERSIONS = ("python", "torch", "dali", "deepspeed", "av", "triton", "numpy")
COLUMNS = (
    *("date", "benchmark", "case", "provider", "part", "unit", "rounds", "items"),
    *("wall_p20_s", "wall_p50_s", "wall_p80_s", "items_per_s", "cpu_s", "cpu_p20_s", "cpu_p80_s"),
    *("cpu_ms_per_item", "peak_mib", "device_mib"),
    *("cpu", "cpus", "load", "gpu", *_VERSIONS, "commit", "command"),
    *("versions", "not_measured"),  # of libraries that have no column; why there are no numbers
)
SHOWN = (
    "case",
    "provider",
    "part",
    "items_per_s",
    "wall_p20_s",
    "wall_p50_s",
    "wall_p80_s",
    "cpu_ms_per_item",
    "peak_mib",
    "device_mib",
    "not_measured",
)

Row = dict[str, str]


@dataclass(frozen=True)
class Recorder:
    """What the rows of one command have in common; `load` is the machine's load average of the minute before the command."""

    benchmark: str
    command: str
    machine: Mapping[str, object]
    load: float
    date: str

    @classmethod
    def start(cls, benchmark: str, command: Sequence[str]) -> "Recorder":
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(benchmark, shlex.join(command), environment(), os.getloadavg()[0], date)

    def rows(
        self, case: str, unit: str, measurements: Iterable[Measurement], versions: Mapping[str, str] | None = None
    ) -> list[Row]:
        """One row of COLUMNS for each measurement; what was not measured is empty. `versions`: of a provider's libraries."""
        shared = self._blank | {"case": case, "unit": unit}
        return [shared | _measured(found) | {"versions": (versions or {}).get(found.provider, "")} for found in measurements]

    def absent(self, case: str, unit: str, provider: str, reason: str) -> Row:
        """The row of what cannot run here."""
        return self._blank | {"case": case, "unit": unit, "provider": provider, "not_measured": reason}

    @property
    def _blank(self) -> Row:
        return dict.fromkeys(COLUMNS, "") | self.origin

    @property
    def origin(self) -> Row:
        """The columns that every row of the command shares."""
        return as_text(
            {
                **{name: getattr(self, name) for name in ("date", "benchmark")},
                **{name: self.machine[name] for name in ("cpu", "cpus")},
                "load": self.load,
                "gpu": " + ".join(self.machine["gpus"]),
                **{name: self.machine[name] for name in (*_VERSIONS, "commit")},
                "command": self.command,
            }
        )


def append_csv(path: Path, rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> None:
    """Adds rows to a CSV file, which is made with its header if absent. Raises ValueError where the file has other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or not path.stat().st_size
    if not is_new:
        with path.open(newline="") as file:
            header = tuple(next(csv.reader(file)))
        if header != tuple(columns):
            differing = sorted(set(header) ^ set(columns)) or ["the order"]
            raise ValueError(f"{path}: its columns differ from today's in {', '.join(differing)}: write to another file with --csv")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = SHOWN) -> str:
    """An aligned markdown table of those columns that any row fills."""
    shown = [column for column in columns if any(row.get(column, "") != "" for row in rows)]
    cells = [shown, *([str(row.get(column, "")).replace("|", "\\|") for column in shown] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(shown))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]) + "\n"


def _measured(measurement: Measurement) -> Row:
    derived = {name: getattr(measurement, name) for name in ("items_per_s", "cpu_ms_per_item")}
    return as_text({**asdict(measurement), **derived})


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The columns wall_p20_s, wall_p50_s, wall_p80_s of these times."""
    names = ("wall_p20_s", "wall_p50_s", "wall_p80_s")
    return dict(zip(names, map(float, np.percentile(seconds, [20, 50, 80])), strict=True))


def as_text(values: Mapping[str, object]) -> Row:
    """A row as it is written: five significant digits, and nothing for None."""
    return {name: _text(value) for name, value in values.items()}


def _text(value) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
