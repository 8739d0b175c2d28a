"""What a sweep has found: the fastest point, those that are as fast for all that was measured, and the yaml of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from xkd.benchmarks.results import Row
from xkd.benchmarks.sweep.space import Point, text
from xkd.benchmarks.sweep.targets import FORM
from xkd.config import parse_overrides, plain


@dataclass(frozen=True)
class Best:
    """The fastest of the measured points, and others whose 20th percentile of time is below the fastest's 80th."""

    point: Point
    row: Row
    as_fast: Sequence[Point]


def best_of(rows: Mapping[Point, Row]) -> Best | None:
    """None where no point could be measured."""
    measured = {point: row for point, row in rows.items() if row["items_per_s"]}
    if not measured:
        return None
    fastest = max(measured, key=lambda point: float(measured[point]["items_per_s"]))
    slowly = _speed(measured[fastest], "wall_p80_s")
    as_fast = [point for point, row in measured.items() if point != fastest and _speed(row, "wall_p20_s") >= slowly]
    return Best(fastest, measured[fastest], as_fast)


def _speed(row: Row, column: str) -> float:
    return float(row["items"]) / float(row[column])


def overrides_of(point: Point, prefetch: int) -> list[str]:
    """The `section.key=value` words of a point; with more pipelines than batches are prepared, as many batches."""
    fields = {name: value for name, value in point if name not in FORM}
    pipelines = fields.get("data.pipelines", "")
    if pipelines.isdecimal() and int(pipelines) > prefetch:
        fields["data.prefetch"] = pipelines
    return [f"{name}={value}" for name, value in fields.items()]


def as_yaml(found: Best, base: str, overrides: Sequence[str], prefetch: int, measured: int) -> str:
    """A configuration file of the best point: `base` with what was given and what was found."""
    told = [f"# The fastest of {measured} points: {float(found.row['items_per_s']):.4g} clips/s; {found.row['case']}"]
    if form := [f"--{name.replace('_', '-')} {value}" for name, value in found.point if name in FORM]:
        told.append(f"# Shards of this form: xkd shards write SOURCE --dataset NAME --split SPLIT --out DIR {' '.join(form)}")
    told += [f"# As fast within the noise: {text(point)}" for point in found.as_fast]
    tree = plain(parse_overrides([*overrides, *overrides_of(found.point, prefetch)]))
    return "\n".join(told) + "\n" + yaml.safe_dump({"base": base, **tree}, sort_keys=False, default_flow_style=None)
