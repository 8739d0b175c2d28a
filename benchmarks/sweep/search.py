"""The search: which points are measured, on all ranks, and what becomes of each."""

import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xkd.benchmarks.harness import Measurement
from xkd.benchmarks.results import Recorder, Row, append_csv, read_csv
from xkd.benchmarks.sweep.best import overrides_of
from xkd.benchmarks.sweep.crew import Crew
from xkd.benchmarks.sweep.space import Axes, Point, next_point, points_of, text
from xkd.benchmarks.sweep.targets import FORM, Target, Task, make_shards
from xkd.config import ConfigError, load
from xkd.jobs import schemas
from xkd.train.config import PretrainConfig

SAME = ("benchmark", "cpu", "cpus", "gpu", "commit")  # of rows that need not be measured again


@dataclass(frozen=True)
class Sweep:
    """What is swept, and how far."""

    target: Target
    what: str
    config: str
    overrides: Sequence[str]
    axes: Axes
    rounds: int
    size: int  # batches of an epoch, or steps of a round
    point_seconds: float
    shards: Path | None = None

    def load(self, point: Point = ()) -> PretrainConfig:
        prefetch = load(self.config, self.overrides, schemas()).data.prefetch if point else 0
        return load(self.config, [*self.overrides, *overrides_of(point, prefetch)], schemas())

    def case(self, point: Point, ranks: int) -> str:
        return " ".join([self.what, f"config={self.config}", *self.overrides, f"ranks={ranks}", text(point)])

    def check_axes(self) -> None:
        """Raises ValueError for an axis of which no value can be set."""
        for name, values in self.axes.items():
            if name in FORM:
                if self.shards or self.what != "loader":
                    raise ValueError(f"--vary: {name} is of the shards that `sweep loader` makes: leave it out, or --shards")
                continue
            errors = [self._error(name, value) for value in values]
            if all(errors):
                raise ValueError(f"--vary: {errors[0]}")

    def _error(self, name: str, value: str) -> str | None:
        try:
            self.load(((name, value),))
        except ConfigError as error:
            return str(error)
        return None


def prepare(sweep: Sweep, point: Point, drivers: Crew, folder: Path) -> Task:
    """What a point measures, with its shards in `folder`. Raises ValueError where it cannot be had."""
    config, ranks = sweep.load(point), drivers.place.world_size
    if config.train.global_batch % (ranks * config.train.accumulation):
        raise ValueError(f"train.global_batch: {config.train.global_batch} clips cannot be dealt evenly to {ranks} ranks")
    shards = sweep.shards
    if sweep.what == "loader" and not shards:
        shards = make_shards(folder, point, sweep.size * config.train.global_batch, write=drivers.place.local_rank == 0)
    return Task(config, sweep.size, sweep.rounds, shards)


def measure_point(sweep: Sweep, point: Point, drivers: Crew, folder: Path) -> tuple[Measurement | None, str | None]:
    """A point's measurement over all ranks, or why there is none."""
    task, refused = None, None
    try:
        task = prepare(sweep, point, drivers, folder)
    except ValueError as error:
        refused = " ".join(str(error).split())
    refusals = [reason for reason in drivers.each(refused) if reason]  # and all machines have their shards
    if refusals:
        return None, refusals[0]
    found, reason = drivers.call(sweep.target.measure, task, seconds=sweep.point_seconds)
    return (None, reason) if reason else (over_ranks(found), None)


def over_ranks(found: Sequence[Measurement]) -> Measurement:
    """What the ranks took together: the time and memory of the slowest and the largest, the CPU time of all."""
    summed = {name: sum(getattr(one, name) or 0.0 for one in found) for name in ("cpu_s", "cpu_p20_s", "cpu_p80_s")}
    names = ("wall_p20_s", "wall_p50_s", "wall_p80_s", "peak_mib")
    return replace(found[0], **summed, **{name: max(getattr(one, name) for one in found) for name in names})


def known_rows(path: Path, recorder: Recorder) -> dict[str, Row]:
    """Rows of this machine and commit by their case: a sweep that was ended goes on where it was."""
    if not path.exists():
        return {}
    own = {name: recorder.origin[name] for name in SAME}
    return {row["case"]: row for row in read_csv(path) if all(row[name] == value for name, value in own.items())}


def search(sweep: Sweep, drivers: Crew, recorder: Recorder, csv: Path, seed: int, budget_seconds: float) -> dict[Point, Row]:
    """Measures points, best first, until all are or the budget is spent; each row is written at once. Rows are rank 0's."""
    points, draw, ranks = points_of(sweep.axes), random.Random(seed), drivers.place.world_size
    known = drivers.agree(known_rows(csv, recorder) if drivers.place.rank == 0 else None)
    rows = {point: known[case] for point in points if (case := sweep.case(point, ranks)) in known}
    end = time.monotonic() + budget_seconds
    with shared_folder(drivers) as folder:
        while True:
            speeds = {point: float(row["items_per_s"]) if row["items_per_s"] else None for point, row in rows.items()}
            spent = time.monotonic() > end
            point = drivers.agree(None if spent else next_point(points, speeds, draw))
            if point is None:
                return rows
            found, reason = measure_point(sweep, point, drivers, folder)
            case, provider = sweep.case(point, ranks), sweep.target.provider
            new = [replace(found, provider=provider)] if found else []
            row = recorder.rows(case, "clip", new)[0] if new else recorder.absent(case, "clip", provider, reason)
            rows[point] = row
            if drivers.place.rank == 0:
                append_csv(csv, [row])
                told = f"{float(row['items_per_s']):.4g} clips/s" if found else reason
                print(f"{len(rows)}/{len(points)}  {text(point)}: {told}", flush=True)


@contextmanager
def shared_folder(drivers: Crew) -> Iterator[Path]:
    """A folder for shards that the drivers of one machine share; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="xkd-sweep-") as own:
        node = os.uname().nodename
        of_nodes = dict(reversed(drivers.each((node, own))))  # that of a node's first rank
        yield Path(of_nodes[node])
        drivers.each(None)  # nobody reads from it any more
