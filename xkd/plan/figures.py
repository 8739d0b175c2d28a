"""Numbers that know where they come from: those of committed results by file, commit and age, and what is no measurement."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path

from xkd.benchmarks.results import Row, read_csv

# How sure a number is, best first.
COUNTED, MEASURED, GIVEN, COMPUTED, MODEL, GUESS = "counted", "measured", "given", "computed", "model", "guess"
MEANINGS = {
    COUNTED: "read from your shards",
    MEASURED: "of a committed result, on the machine that is named",
    GIVEN: "from you: the configuration or an option",
    COMPUTED: "follows from the configuration and the lines above",
    MODEL: "of docs/scaling.md, which no run on several GPUs stands behind",
    GUESS: "nothing was measured: replace it as soon as you can",
}
# What `xkd bench convert` writes of the members that it has made.
STORED = re.compile(
    r" (?P<seconds>\d+) s .* to (?P<profile>\w+) (?P<video>\w+) (?P<video_kb>\d+) kB \+ (?P<audio>\w+) (?P<audio_kb>\d+) kB$"
)


@dataclass(frozen=True)
class Figure:
    """A number, how it is known, and of what."""

    value: float
    how: str
    source: str = ""


def results_folder() -> Path:
    """The results that this installation was committed with."""
    return Path(str(files("xkd.benchmarks"))) / "results"


def newest(folder: Path, names: Iterable[str], fits: Callable[[Row], bool]) -> Row | None:
    """The newest row that fits of files of results, with its `file`; None where there is none."""
    paths = [path for name in names if (path := folder / f"{name}.csv").exists()]
    rows = [row | {"file": path.name} for path in paths for row in read_csv(path) if fits(row)]
    return max(rows, key=lambda row: row["date"]) if rows else None


def measured(row: Row, column: str, today: date, of: str = "") -> Figure:
    """A number of a row, with the row's file, commit, age, machine, and what else is to be known of it."""
    days = (today - date.fromisoformat(row["date"][:10])).days
    age = "today" if days <= 0 else f"{days} day{'s' * (days > 1)} old"
    words = [f"{row['file']}, commit {row['commit'][:7]}, {age}, {row['gpu'] or row['cpu']}", of]
    return Figure(float(row[column]), MEASURED, "; ".join(filter(None, words)))


def stored_bytes(folder: Path, today: date, *, profile: str, codec: str, audio: str) -> tuple[Figure, Figure]:
    """Bytes of a clip's video and of its sound, as `xkd bench convert` has made them of one kind of source.

    Raises ValueError where none was measured in that form.
    """
    video = _member(folder, today, "video", profile=profile, video=codec)
    return video, _member(folder, today, "audio", audio=audio)


def _member(folder: Path, today: date, member: str, **form: str) -> Figure:
    def found(row: Row) -> re.Match | None:
        match = STORED.search(row["case"])
        return match if match and all(match[name] == value for name, value in form.items()) else None

    row = newest(folder, ["convert"], lambda row: found(row) is not None)
    if row is None:
        known = sorted({match[name] for match in _forms(folder) for name in form if name != "profile"})
        raise ValueError(
            f"{' '.join(form.values())}: no committed result of `xkd bench convert` has this form, but only {', '.join(known)}: "
            "choose one of them, or point data.train at shards"
        )
    source = measured(row, "rounds", today, f"a made clip of {found(row)['seconds']} s").source
    return Figure(1000 * float(found(row)[f"{member}_kb"]), MEASURED, source)


def _forms(folder: Path) -> Iterable[re.Match]:
    path = folder / "convert.csv"
    return filter(None, (STORED.search(row["case"]) for row in (read_csv(path) if path.exists() else [])))
