"""Whatever happens to a shard's files, what is read of them is what was written, or marked, or the set is refused."""

import os
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.pipelines.mutations import MANIFEST, MUTATIONS, Mutation
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.config import DataConfig
from xkd.pipelines.samples.source import Example, Source
from xkd.pipelines.samples.stream import ExampleStream, Step
from xkd.pipelines.shards.index import Sample, ShardSet
from xkd.pipelines.store.opening import open_shards
from xkd.pipelines.views.presets import PRESETS

pytestmark = [pytest.mark.filterwarnings("ignore:.*(it is (replaced|left out)|is damaged where it lies)"), pytest.mark.timeout(100)]
SAMPLES, SHARD_SAMPLES, BATCH = 16, 4, 2
EPOCHS = {"pretrain": (0, 1), "eval": (0,)}
READERS = {
    "in the caller's thread": {"read_ahead": 0},
    "ahead": {"read_ahead": 4},
    "ahead, through a cache": {"read_ahead": 4, "cache_dir": True},
}


def config(folder: Path, read_ahead: int = 0, cache_dir: bool = False) -> DataConfig:
    """For the set in a folder; a cache lies inside it."""
    return DataConfig(
        train=folder,
        clip_seconds=1.0,
        block_shards=2,
        canonical_nodes=2,
        read_ahead=read_ahead,
        cache_dir=folder / "cache" if cache_dir else None,
        max_bad_share=1.0,
        video={"fps": 4, "local_view": {"count": 0}},
        audio={"local_view": {"count": 0}},
    )


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean") / "shards"
    return ShardSet.open(write_random_shards(folder, samples=SAMPLES, shard_samples=SHARD_SAMPLES, video_bytes=4000, seconds=1.5))


@pytest.fixture(scope="module")
def asked(clean):
    """The ids of the samples asked for, by preset and epoch: those that the clean set delivers."""
    data = config(clean.folder)
    return {
        (preset, epoch): [example.sample.id for step in stream(clean, preset, data).epoch(epoch) for example in step.examples]
        for preset, epochs in EPOCHS.items()
        for epoch in epochs
    }


def stream(shards: ShardSet, preset: str, data: DataConfig) -> ExampleStream:
    return ExampleStream(shards, data, PRESETS[preset], batch_size=BATCH)


def source(clean: ShardSet, preset: str) -> Source:
    row = PRESETS[preset]
    return Source(clean, row.narrow(config(clean.folder)), row, 0)


def copy(clean: ShardSet, target: Path) -> None:
    """A copy of the set in which only the file `target` has bytes of its own; the rest are links."""
    target.parent.mkdir()
    for file in clean.folder.iterdir():
        (shutil.copyfile if file.name == target.name else os.link)(file, target.with_name(file.name))


@pytest.mark.parametrize(
    "rounds", [1, pytest.param(3, marks=pytest.mark.long), pytest.param(27, marks=pytest.mark.soak)], ids=["few", "50", "1000"]
)
@pytest.mark.parametrize("kind", MUTATIONS)
def test_what_is_delivered_is_what_was_written_or_marked(clean, asked, tmp_path, kind, rounds):
    mutation, outcomes = MUTATIONS[kind], Counter()
    # A location that lacks bytes is tried again for half a minute: what a cache makes of that is tested with the cache.
    whole = mutation.when == "before opening" and mutation.outcome != "refused"
    readers = [reader for reader in READERS.values() if whole or "cache_dir" not in reader]
    for seed in range(rounds):
        random = np.random.default_rng([zlib.crc32(kind.encode()), seed])
        reader = readers[seed % len(readers)]
        for preset in EPOCHS:
            folder = tmp_path / f"{preset} {seed}"
            outcomes[outcome(clean, asked, folder, mutation, random, preset, reader)] += 1
            shutil.rmtree(folder, ignore_errors=True)  # a refused cached set may be copying its sidecars still
    assert outcomes[mutation.outcome] > 0, outcomes
    assert outcomes.keys() <= {"marked", "refused", "unharmed"}


def outcome(clean, asked, folder: Path, mutation: Mutation, random, preset: str, reader: dict) -> str:
    """What comes of reading a mutated set to the end."""
    name = random.choice([shard.name for shard in clean.manifest.shards])
    target = folder / (MANIFEST if mutation.suffix == MANIFEST else f"{name}{mutation.suffix}")
    copy(clean, target)
    mutate = partial(mutation.apply, target, random)
    try:
        marked = [
            place
            for epoch, step in mutated_steps(mutation.when, mutate, preset, config(folder, **reader))
            for place in checked(step, asked[preset, epoch], source(clean, preset), epoch)
        ]
    except ValueError as error:
        return "refused" if str(folder) in str(error) else f"refused without naming the folder: {error}"
    if mutation.suffix != MANIFEST:
        assert all(differs(clean.sample(sample_id), folder) for sample_id in marked)
    return "marked" if marked else "unharmed"


def mutated_steps(when: str, mutate: Callable[[], None], preset: str, data: DataConfig) -> Iterator[tuple[int, Step]]:
    """Each epoch and step of the set, to which `mutate` is done at its time."""
    if when == "before opening":
        mutate()
    shards = open_shards(data.train, data)
    if when == "after opening":
        mutate()
    with closing(shards.files), stream(shards, preset, data) as steps:
        for epoch in EPOCHS[preset]:
            for step in steps.epoch(epoch):
                yield epoch, step
                if when == "after the first step" and (epoch, step.number) == (0, 0):
                    mutate()


def checked(step: Step, asked: list[int], clean: Source, epoch: int) -> Iterator[int]:
    """Yields the ids of the samples asked for that are marked as damaged; each row must hold what some sample was written with."""
    for row, example in enumerate(step.examples):
        asked_id = asked[step.number * BATCH + row]
        assert same(example, clean(epoch, example.sample.id, drawn_for=asked_id))
        if step.substituted[row] or not step.valid[row]:
            yield asked_id
        else:
            assert example.sample.id == asked_id


def same(found: Example, written: Example) -> bool:
    facts = [(example.sample.id, example.sample.key, example.sample.labels) for example in (found, written)]
    return facts[0] == facts[1] and all(np.array_equal(found.inputs[name], written.inputs[name]) for name in written.inputs)


def differs(sample: Sample, folder: Path) -> bool:
    """Whether the folder's tar has other bytes of this sample, or none."""
    tar = folder / sample.shard.name
    if not tar.is_file():
        return True
    written, found = sample.shard.read_bytes(), tar.read_bytes()
    runs = (slice(member.offset, member.offset + member.size) for member in (sample.video, sample.audio))
    return any(written[run] != found[run] for run in runs)
