"""Says what a conversion would do and come to: converts a few of its items, and writes nothing."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xkd.pipelines.convert.plan import Plan, make_plan
from xkd.pipelines.convert.sample import Converted, Failure, convert, find_absent, lost
from xkd.pipelines.convert.sources.item import Item
from xkd.pipelines.convert.summary import describe_completeness
from xkd.pipelines.convert.workers import map_in_order

# Names of missing and unlisted files that are shown.
NAMES = 10


@dataclass(frozen=True)
class Estimate:
    """What `write_shards` would do, reckoned from the `tried` items, of which `failed` failed.

    `seconds_each` is the time that one worker takes for an item; workers share the items evenly.
    """

    plan: Plan
    workers: int
    tried: int
    failed: int
    bytes_each: float
    seconds_each: float

    @property
    def seconds(self) -> float:
        """How long all items take."""
        return len(self.plan.places) * self.seconds_each / self.workers

    def __str__(self) -> str:
        settings, listing, count = self.plan.settings, self.plan.listing, len(self.plan.places)
        part = " (part {} of {})".format(*settings.part) if settings.part else ""
        groups = -(-count // settings.shard_samples)
        total = count * self.bytes_each
        lines = [
            f"{settings.dataset} {settings.split}: {describe_completeness(self.plan.completeness(0, 0), len(listing.classes))}",
            f"would convert {count} items{part} of {len(listing.classes)} classes to at least"
            f" {max(groups, round(total / settings.shard_bytes))} shards, about {total / 1e6:.1f} MB,"
            f" in about {_in_words(self.seconds)} with {self.workers} workers"
            f" (measured on {self.tried} of them, of which {self.failed} failed); nothing was written",
        ]
        lines += _names("missing", listing.missing) + _names("in no list", listing.unlisted)
        return "\n".join(lines)


def estimate_shards(source: str | Path, *, workers: int | None = None, tried: int = 16, **choices) -> Estimate:
    """Plan a conversion and try `tried` of its items; `choices` are those of `make_plan`, which says what is a ValueError."""
    plan = make_plan(Path(source), **choices)
    workers = workers or len(os.sched_getaffinity(0))
    items = [plan.items[place] for place in plan.places[:tried]]
    profile, streams = plan.settings.profile, plan.settings.streams
    function = partial(measured, partial(convert, profile=profile, streams=streams, absent=find_absent(items)))
    with closing(map_in_order(function, items, workers, lost=_lost)) as converted:
        results = list(converted)
    good = [result for result, _ in results if isinstance(result, Converted)]
    size = sum(len(data) for result in good for data in (result.video, result.audio, result.info) if data is not None)
    return Estimate(
        plan=plan,
        workers=workers,
        tried=len(results),
        failed=len(results) - len(good),
        bytes_each=size / max(1, len(results)),
        seconds_each=sum(seconds for _, seconds in results) / max(1, len(results)),
    )


def measured(function: Callable[[Item], Converted | Failure], item: Item) -> tuple[Converted | Failure, float]:
    """What a function makes of an item, and the seconds that it takes for it; those that the worker takes to start do not count."""
    begin = time.perf_counter()
    return function(item), time.perf_counter() - begin


def _lost(item: Item, reason: str) -> tuple[Failure, float]:
    return lost(item, reason), 0.0


def _in_words(seconds: float) -> str:
    hours = f"{seconds / 3600:.2f}"
    return f"{hours} h" if float(hours) else f"{seconds / 60:.2f} min"


def _names(kind: str, names: tuple[str, ...]) -> list[str]:
    shown = ", ".join(map(repr, names[:NAMES]))
    return [f"{len(names)} {kind}: {shown}{', ...' if len(names) > NAMES else ''}"] if names else []
