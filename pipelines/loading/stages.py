"""Where the time of loading goes: prefixes of the loader on the same clips, each of them timed."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from nvidia.dali import Pipeline

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.loading.buffers import Buffers
from xkd.pipelines.loading.executor import Executor, feed
from xkd.pipelines.samples.source import Example
from xkd.pipelines.samples.stream import ExampleStream
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.finish import finish
from xkd.pipelines.views.graph import build_graph, input_names, output_names
from xkd.pipelines.views.presets import PRESETS

Batches = list[list[Example]]
Part = Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """What a stage takes of a clip: time of all CPUs, and time until it is done where nothing runs beside it."""

    cpu_seconds: float
    wall_seconds: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.cpu_seconds - other.cpu_seconds, self.wall_seconds - other.wall_seconds)


def profile(
    shards: ShardSet,
    config: DataConfig,
    *,
    preset: str = "pretrain",
    batch_size: int = 8,
    batches: int = 4,
    rounds: int = 3,
    device: str = "cpu",
) -> dict[str, Cost]:
    """The cost of each stage, and of the `loader`, in which they run side by side: medians over `rounds`, after one to warm up.

    `read`: bytes are read and checked, parameters drawn. `transfer`: DALI takes over what it is fed, on a GPU the sound is moved
    there. `decode`: frames, on a GPU with the way of the encoded video to it. `augment`: views cut from them. `sound`:
    spectrograms. `finish`: what follows the graph. A stage of the graph is what its prefix costs more than the one before; noise
    may make the least of them negative. Raises ValueError where the shards hold fewer clips than the batches.
    """
    one_by_one = config.model_copy(update={"read_ahead": 0})  # else more would be read than is used
    with (
        ExampleStream(shards, one_by_one, PRESETS[preset], batch_size=batch_size) as stream,
        Loader(shards, config, preset=preset, batch_size=batch_size, device=device) as loader,
    ):
        first = len(stream) - batches  # the last batches of an epoch, behind which nothing is prepared
        if first < 0:
            raise ValueError(f"{shards.folder}: holds {len(stream)} batches of {batch_size} clips, fewer than {batches}")
        examples = [step.examples for step in stream.epoch(0, first)]
        parts: dict[str, Part] = {"read": lambda: list(stream.epoch(0, first))}
        prefixes = graph_prefixes(stream.config)
        for stage, outputs in prefixes.items():
            graph = build_graph(stream.config, batch_size=batch_size, device=device, outputs=outputs)
            parts[stage] = _running(graph, outputs, examples)
        with closing(Executor(stream.config, batch_size=batch_size, device=device)) as executor:
            parts["finish"] = _finishing(executor, stream.config, examples)
            parts["loader"] = lambda: list(loader.epoch(0, first))
            costs = _measured(parts, rounds, batches * batch_size)
    stages = {after: costs[after] - costs[before] for before, after in pairwise(prefixes)}
    return {"read": costs["read"], "transfer": costs["transfer"]} | stages | {name: costs[name] for name in ("finish", "loader")}


def graph_prefixes(config: ExampleConfig) -> dict[str, Sequence[str]]:
    """The outputs that each stage of the graph and those before it make."""
    views = output_names(config)
    pictures = [name for name in views if name.startswith("video")]
    return {"transfer": ["pcm"], "decode": ["pcm", "frames"], "augment": ["pcm", *pictures], "sound": views}


def _running(pipeline: Pipeline, outputs: Sequence[str], batches: Batches) -> Part:
    names = input_names(outputs, batches[0][0].inputs)

    def run():
        for examples in batches:
            feed(pipeline, [example.inputs for example in examples], names)
            pipeline.schedule_run()
            pipeline.share_outputs()  # waits for a GPU, too
            pipeline.release_outputs()

    return run


def _finishing(executor: Executor, config: ExampleConfig, batches: Batches) -> Part:
    buffers, taken = Buffers(), []
    for examples in batches:
        executor.put([example.inputs for example in examples])
        taken.append(({name: tensor.clone() for name, tensor in executor.take().items()}, [example.after for example in examples]))

    def run():
        for outputs, after in taken:
            views = finish(outputs, after, config, buffers)
        next(iter(views.values())).sum().item()  # waits for a GPU

    return run


def _measured(parts: dict[str, Part], rounds: int, clips: int) -> dict[str, Cost]:
    """Costs a clip. The parts take turns, so that a slow spell of the machine meets all alike."""
    readings: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for _ in range(1 + rounds):
        for name, part in parts.items():
            cpu, wall = time.process_time(), time.perf_counter()
            part()
            readings[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: Cost(*(median(column) / clips for column in zip(*taken[1:], strict=True))) for name, taken in readings.items()}
