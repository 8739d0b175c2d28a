"""Says what a conversion would do and come to: converts a few of its items, and writes nothing."""

import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xkd.pipelines.convert.plan import Plan, make_plan
from xkd.pipelines.convert.sample import Converted, convert_all
from xkd.pipelines.convert.summary import describe_completeness

# Names of missing and unlisted files that are shown.
NAMES = 10


@dataclass(frozen=True)
class Estimate:
    """What `write_shards` would do; sizes and times are those of the `tried` items, of which `failed` failed, times all."""

    plan: Plan
    workers: int
    tried: int
    failed: int
    bytes_each: float
    seconds_each: float

    def __str__(self) -> str:
        settings, listing, count = self.plan.settings, self.plan.listing, len(self.plan.places)
        part = " (part {} of {})".format(*settings.part) if settings.part else ""
        groups = -(-count // settings.shard_samples)
        total = count * self.bytes_each
        lines = [
            f"{settings.dataset} {settings.split}: {describe_completeness(self.plan.completeness(0, 0), len(listing.classes))}",
            f"would convert {count} items{part} of {len(listing.classes)} classes to at least"
            f" {max(groups, round(total / settings.shard_bytes))} shards, about {total / 1e6:.1f} MB,"
            f" in about {count * self.seconds_each / 3600:.2f} h with {self.workers} workers"
            f" (measured on {self.tried} of them, of which {self.failed} failed); nothing was written",
        ]
        lines += _names("missing", listing.missing) + _names("in no list", listing.unlisted)
        return "\n".join(lines)


def estimate_shards(source: str | Path, *, workers: int | None = None, tried: int = 16, **choices) -> Estimate:
    """Plan a conversion and try `tried` of its items; `choices` are those of `make_plan`, which says what is a ValueError."""
    plan = make_plan(Path(source), **choices)
    workers = workers or len(os.sched_getaffinity(0))
    items = [plan.items[place] for place in plan.places[:tried]]
    results, times = [], []
    with closing(convert_all(items, plan.settings.profile, plan.settings.streams, workers)) as converted:
        for result in converted:
            results.append(result)
            times.append(time.monotonic())
    good = [result for result in results if isinstance(result, Converted)]
    size = sum(len(data) for result in good for data in (result.video, result.audio, result.info) if data is not None)
    return Estimate(
        plan=plan,
        workers=workers,
        tried=len(results),
        failed=len(results) - len(good),
        bytes_each=size / max(1, len(results)),
        # From the first result on, for workers take time to start.
        seconds_each=(times[-1] - times[0]) / max(1, len(times) - 1) if times else 0.0,
    )


def _names(kind: str, names: tuple[str, ...]) -> list[str]:
    shown = ", ".join(map(repr, names[:NAMES]))
    return [f"{len(names)} {kind}: {shown}{', ...' if len(names) > NAMES else ''}"] if names else []
