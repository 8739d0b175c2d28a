"""How measurements went over the commits, drawn as SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from xkd.benchmarks.results import Row
from xkd.benchmarks.timings import MACHINE, Key, Timing, is_whole, key, kind, name, timing

WIDTH, HEIGHT = 560, 200
LEFT, RIGHT, TOP, BOTTOM = 60, 16, 12, 26
COLORS = ("#1f6feb", "#d1570a", "#2f8f46", "#8250df", "#b3261e", "#0b7f8c", "#6e5a00", "#57606a")
TICKS = 4
DEVIATIONS = 1.96


@dataclass(frozen=True)
class Point:
    """One run of a measurement."""

    commit: str
    date: str
    timing: Timing


@dataclass(frozen=True)
class Course:
    """The runs of one piece of work on one machine: those of each provider, in the order of the file."""

    title: str
    machine: str
    providers: Mapping[str, Sequence[Point]]

    @property
    def runs(self) -> list[tuple[str, str]]:
        """(date, commit) of all runs, in order."""
        return sorted({(point.date, point.commit) for points in self.providers.values() for point in points})


def courses(rows: Iterable[Row]) -> list[Course]:
    """Every whole piece of work that was measured more than once."""
    found: dict[tuple[Key, str], dict[str, list[Point]]] = {}
    for row in rows:
        by = kind(row, None)
        if by and is_whole(row) and row.get("date"):
            of = tuple((column, value) for column, value in key(row) if column != "provider")
            providers = found.setdefault((of, machine(row)), {})
            point = Point(row.get("commit", "")[:7], row["date"], timing(row, by))
            providers.setdefault(row.get("provider", "") or "this project", []).append(point)
    drawn = [Course(name(of, ["benchmark"]), where, providers) for (of, where), providers in found.items()]
    return [course for course in drawn if len(course.runs) > 1]


def machine(row: Row) -> str:
    """Where a row was measured, in words."""
    cpu, cpus, gpu = (row.get(column, "") for column in MACHINE)
    return f"{cpu}, {cpus} CPUs, {gpu or 'no GPU'}"


def svg(course: Course) -> str:
    """Milliseconds an item over the runs, from 0: a line for each provider, at each point the noise of its rounds."""
    runs = course.runs
    top = TICKS * _round_step(1000 * max(point.timing.seconds for points in course.providers.values() for point in points) / TICKS)

    def x(point: Point) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (runs.index((point.date, point.commit)) + 0.5) / len(runs)

    def y(milliseconds: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(milliseconds, top) / top)

    parts = [_axis(top, y), _commits(runs)]
    for number, (provider, points) in enumerate(course.providers.items()):
        parts.append(_line(provider, points, COLORS[number % len(COLORS)], x, y))
    title = f"<title>{escape(course.title)}</title>"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{title}{"".join(parts)}</svg>'


def legend(course: Course) -> str:
    """The names of a drawing's lines, in their colours."""
    names = enumerate(course.providers)
    return "".join(f'<span style="color:{COLORS[at % len(COLORS)]}">&#9632; {escape(provider)}</span> ' for at, provider in names)


def _line(provider, points, color, x, y) -> str:
    middle = [(x(point), y(1000 * point.timing.seconds)) for point in points]
    drawn = [f'<polyline fill="none" stroke="{color}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in middle)}"/>']
    for point, (at, height) in zip(points, middle, strict=True):
        milliseconds, share = 1000 * point.timing.seconds, DEVIATIONS * point.timing.error
        low, high = y(milliseconds * (1 - share)), y(milliseconds * (1 + share))
        told = escape(f"{provider}: {milliseconds:.4g} ms ± {share:.0%}, {point.commit}, {point.date}")
        drawn.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{min(low, y(0)):.1f}" y2="{high:.1f}" stroke="{color}" opacity="0.5"/>'
        )
        drawn.append(f'<circle cx="{at:.1f}" cy="{height:.1f}" r="3" fill="{color}"><title>{told}</title></circle>')
    return "".join(drawn)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5 or 10 times a power of ten that is not smaller."""
    power = 10 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= least)


def _axis(top, y) -> str:
    lines = []
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#d8dee4"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g} ms</text>')
    return "".join(lines)


def _commits(runs) -> str:
    step, shown = (WIDTH - LEFT - RIGHT) / len(runs), max(1, -(-len(runs) * 60 // (WIDTH - LEFT - RIGHT)))
    return "".join(
        f'<text x="{LEFT + step * (number + 0.5):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(commit)}</text>'
        for number, (_, commit) in enumerate(runs)
        if number % shown == 0
    )
