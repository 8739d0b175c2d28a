"""Block order against global: shards that a node touches, how well samples are mixed, and the time of a call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np

from xkd.benchmarks import command
from xkd.benchmarks.harness import Measurement, Round, measure
from xkd.benchmarks.results import Row, as_text
from xkd.benchmarks.shuffle_quality import between_epochs, class_span, classes_a_batch, inverse, shards_of_nodes, within_epoch
from xkd.pipelines.samples.order import epoch_order, num_streams

SHARD_SAMPLES = 1000
NODES = (1, 3, 4, 8, 16)
SEED, EPOCHS = 0, (0, 1)
# The product block_shards * canonical_nodes is how many shards are mixed at a time.
SETTINGS = {"global": {"order": "global"}} | {
    f"block {block_shards} x {canonical_nodes}": {
        "order": "block",
        "block_shards": block_shards,
        "canonical_nodes": canonical_nodes,
    }
    for block_shards, canonical_nodes in ((8, 1), (2, 4), (8, 4), (32, 4), (4, 8), (8, 8), (2, 16), (4, 16), (8, 16))
}

SHOWN = (
    *("set", "setting", "window_1", "window_4", "window_16", "live_1", "live_16", "copies_16"),
    *("stored_correlation", "epoch_correlation", "neighbours_meet", "shard_meets", "meet_again"),
    *(
        "displacement",
        "displacement_p10",
        "classes_sorted",
        "classes_sorted_least",
        "class_span_sorted",
        "classes_mixed",
        "wall_p50_s",
    ),
)


@dataclass(frozen=True)
class Storage:
    """A set of so many samples in shards of 1,000, in so many equally large classes."""

    samples: int
    classes: int

    @property
    def shard_numbers(self) -> np.ndarray:
        return np.arange(self.samples) // SHARD_SAMPLES

    @property
    def sorted_labels(self) -> np.ndarray:
        """Of storage sorted by class: the worst that can be met."""
        return np.arange(self.samples) * self.classes // self.samples

    @property
    def mixed_labels(self) -> np.ndarray:
        """Of storage in random order, as `xkd shards write` makes it."""
        return self.sorted_labels[np.argsort(np.random.Philox(key=SEED).random_raw(self.samples), kind="stable")]


SETS = {
    "kinetics_sound": Storage(22_000, 32),
    "kinetics400": Storage(240_000, 400),
    "audioset": Storage(2_000_000, 527),
}


@contextmanager
def setup(storage: Storage, setting: str) -> Iterator[Round]:
    """A round makes the order of one epoch."""
    shard_numbers, epochs = storage.shard_numbers, count()
    yield lambda lap: len(epoch_order(shard_numbers, SEED, next(epochs), **SETTINGS[setting]))


def quality(storage: Storage, setting: str, global_batch: int) -> dict[str, float]:
    """Every measure of the first epoch's order, and of the second's against it."""
    shard_numbers = storage.shard_numbers
    order, second = (epoch_order(shard_numbers, SEED, epoch, **SETTINGS[setting]) for epoch in EPOCHS)
    places, streams = inverse(order), num_streams(SETTINGS[setting]["order"], SETTINGS[setting].get("canonical_nodes", 1))
    nodes = {number: shards_of_nodes(shard_numbers[order], global_batch, number, streams) for number in NODES}
    in_sorted = classes_a_batch(order, storage.sorted_labels, global_batch)
    return {
        **{f"{name}_{number}": values[name] for name in ("window", "live", "copies") for number, values in nodes.items()},
        **within_epoch(places, shard_numbers, global_batch),
        **between_epochs(places, inverse(second), global_batch),
        "classes_sorted": float(in_sorted.mean()),
        "classes_sorted_least": float(in_sorted.min()),
        "class_span_sorted": class_span(places, storage.sorted_labels),
        "classes_mixed": float(classes_a_batch(order, storage.mixed_labels, global_batch).mean()),
    }


def row(name: str, global_batch: int, time: Measurement) -> Row:
    """One setting on one set: what it is, its measures, its time."""
    storage = SETS[name]
    described = {"set": name, "samples": storage.samples, "shards": storage.samples // SHARD_SAMPLES, "classes": storage.classes}
    measured = quality(storage, time.provider, global_batch)
    times = {column: getattr(time, column) for column in ("rounds", "wall_p20_s", "wall_p50_s", "wall_p80_s")}
    return as_text(described | {"global_batch": global_batch, "setting": time.provider} | measured | times)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("order", "Compare block order with global, on sets of the sizes of known ones.", rounds=5)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="(default: all)")
    parser.add_argument("--global-batch", type=int, default=768, help=f"a multiple of each of {NODES} nodes (default 768)")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    if any(options.global_batch % nodes for nodes in NODES):
        raise ValueError(f"--global-batch {options.global_batch}: is no multiple of each of {NODES} nodes; take 48, 96, ... 768")
    recorder, rows = command.recorder("order", arguments), []
    for name in options.sets:
        times = measure(partial(setup, SETS[name]), list(SETTINGS), rounds=options.rounds, warmup=1)
        rows += [row(name, options.global_batch, time) | recorder.origin for time in times]
    command.finish(rows, options.csv, columns=tuple(rows[0]), shown=SHOWN)
    return 0
