"""What a check of the GPU is given, and what it finds."""

from dataclasses import dataclass, field
from pathlib import Path

from xkd.benchmarks.results import Recorder, Row


@dataclass(frozen=True)
class Context:
    """What a check is given."""

    media: Path | None
    recorder: Recorder


@dataclass(frozen=True)
class Findings:
    """What was found: timings, other facts as rows of a table, and what is wrong."""

    rows: list[Row] = field(default_factory=list)
    facts: list[dict] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(self.rows + other.rows, self.facts + other.facts, self.wrong + other.wrong)
