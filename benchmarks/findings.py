"""What a check of the GPU is given, and what it finds."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from xkd.benchmarks.results import Recorder, Row

Item = TypeVar("Item")


@dataclass(frozen=True)
class Context:
    """What a check is given; `end` is when its time is up (`time.perf_counter`), `left_out` what it has not done for that.

    `device` is where clips are loaded and kernels run: their tests try the checks on a CPU.
    """

    media: Path | None
    recorder: Recorder
    end: float = math.inf
    device: Literal["cpu", "gpu"] = "gpu"
    left_out: list[str] = field(default_factory=list)

    @property
    def torch_device(self) -> Literal["cpu", "cuda"]:
        """What torch calls it."""
        return "cuda" if self.device == "gpu" else "cpu"

    def in_time(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items until time is up, the first one in any case."""
        items = list(items)
        for number, item in enumerate(items):
            if number and time.perf_counter() > self.end:
                self.left_out.append(f"{len(items) - number} of {len(items)}")
                return
            yield item


@dataclass(frozen=True)
class Findings:
    """What was found: timings, other facts as rows of a table, and what is wrong."""

    rows: list[Row] = field(default_factory=list)
    facts: list[dict] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(self.rows + other.rows, self.facts + other.facts, self.wrong + other.wrong)
