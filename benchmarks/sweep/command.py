"""The command `xkd bench sweep`."""

from collections.abc import Sequence
from pathlib import Path

from xkd.benchmarks import command
from xkd.benchmarks.results import Row, markdown
from xkd.benchmarks.sweep.best import as_yaml, best_of
from xkd.benchmarks.sweep.crew import crew
from xkd.benchmarks.sweep.search import Sweep, search
from xkd.benchmarks.sweep.space import Point, parse_axes
from xkd.benchmarks.sweep.targets import FORM, TARGETS
from xkd.config import load, locate
from xkd.jobs import schemas
from xkd.train.distributed import find_place

SHOWN = ("case", "items_per_s", "wall_p20_s", "wall_p80_s", "cpu_ms_per_item", "peak_mib", "not_measured")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("sweep", "Try settings, the neighbours of the best first, and print the yaml of the best.", rounds=3)
    parser.add_argument("what", choices=TARGETS, help="loading, or training steps on noise")
    parser.add_argument("--config", default="pretrain/demo.yaml", help="configuration to start from (default %(default)s)")
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=V,V",
        help="an axis in place of the default one, or more; may come often",
    )
    parser.add_argument("--only", action="store_true", help="nothing but the axes of --vary")
    parser.add_argument("--shards", type=Path, help="loader: shard folder to read (default: made ones, of each form)")
    parser.add_argument("--size", type=int, default=4, help="batches of an epoch, or steps of a round (default 4)")
    parser.add_argument("--budget-minutes", type=float, default=10.0, help="no point begins after this (default 10)")
    parser.add_argument("--point-minutes", type=float, default=5.0, help="a point ends after this (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order (default 0)")
    parser.add_argument("--best", type=Path, metavar="FILE", help="write the yaml of the best there, too")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_intermixed_args(arguments)
    place, target, recorder = find_place(), TARGETS[options.what], command.recorder("sweep", arguments)
    config = load(options.config, options.overrides, schemas())
    usual = {} if options.only else dict(target.axes(config, place.world_size))
    if options.shards:
        usual = {name: values for name, values in usual.items() if name not in FORM}
    sweep = Sweep(
        target=target,
        what=options.what,
        config=options.config,
        overrides=options.overrides,
        axes=usual | parse_axes(options.vary),
        rounds=options.rounds,
        size=options.size,
        point_seconds=60 * options.point_minutes,
        shards=options.shards,
    )
    sweep.check_axes()
    with crew(place) as drivers:
        rows = search(sweep, drivers, recorder, options.csv, options.seed, 60 * options.budget_minutes)
    return report(sweep, rows, options.best, config.data.prefetch) if place.rank == 0 else 0


def report(sweep: Sweep, rows: dict[Point, Row], out: Path | None, prefetch: int) -> int:
    """Prints the rows, fastest first, and the yaml of the best; 1 where nothing could be measured."""
    ordered = sorted(rows.values(), key=lambda row: -float(row["items_per_s"] or 0))
    print(markdown(ordered, SHOWN), end="")
    found = best_of(rows)
    if found is None:
        print("no point could be measured")
        return 1
    path = locate(sweep.config)
    base = sweep.config if path != Path(sweep.config) else str(path.resolve())
    written = as_yaml(found, base, sweep.overrides, prefetch, len(rows))
    print(written, end="")
    if out:
        out.write_text(written)
    return 0
