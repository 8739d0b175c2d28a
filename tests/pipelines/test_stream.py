import gc
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.pipelines.damage import copy_with_damage
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.config import DataConfig
from xkd.pipelines.index import ShardSet
from xkd.pipelines.order import epoch_order
from xkd.pipelines.presets import PRESETS
from xkd.pipelines.quarantine import TooManyDamaged
from xkd.pipelines.shard_files import LocalFiles, StorageError
from xkd.pipelines.source import Source
from xkd.pipelines.stream import ExampleStream

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (replaced|left out)")
WORLD_SIZES = (1, 2, 3, 4, 8)
DAMAGED = (3, 4, 17, 40, 41, 42)


def config(**changes) -> DataConfig:
    fields = {
        "train": "unused",
        "clip_seconds": 1.0,
        "min_seconds": 0,
        "block_shards": 2,
        "canonical_nodes": 4,
        "read_ahead": 4,
        "max_bad_share": 1.0,
        "video": {"fps": 4, "local_view": {"count": 0}},
        "audio": {"local_view": {"count": 0}},
    }
    return DataConfig(**(fields | changes))


def stream(shards, preset="pretrain", **arguments) -> ExampleStream:
    data = arguments.pop("config", None) or config()
    return ExampleStream(shards, data, PRESETS[preset], **({"batch_size": 6} | arguments))


@pytest.fixture(scope="module")
def healthy(many_shards):
    return ShardSet.open(many_shards)


@pytest.fixture(scope="module")
def damaged(healthy, tmp_path_factory):
    return copy_with_damage(healthy, tmp_path_factory.mktemp("damaged") / "copy", *DAMAGED)


@pytest.fixture(scope="module")
def damaged_folder(damaged):
    return damaged.folder


def row(example) -> tuple:
    """All of an example that a test compares."""
    return example.sample.id, example.inputs["video"].tobytes(), example.inputs["pcm"].tobytes(), example.inputs["frames"].tobytes()


def rows(step) -> list[tuple]:
    return [
        (*row(example), bool(substituted), bool(valid))
        for example, substituted, valid in zip(step.examples, step.substituted, step.valid, strict=True)
    ]


def global_batches(shards, world_size, global_batch=24, epoch=0, start_step=0, **arguments) -> list[list[tuple]]:
    """The rows of each step, those of all ranks one after the other."""
    ranks = []
    for rank in range(world_size):
        split = {"batch_size": global_batch // world_size, "rank": rank, "world_size": world_size}
        with stream(shards, **split, **arguments) as one:
            ranks.append([rows(step) for step in one.epoch(epoch, start_step)])
    return [list(chain(*parts)) for parts in zip(*ranks, strict=True)]


@pytest.mark.parametrize("order", ["block", "global"])
def test_all_world_sizes_deliver_the_same_global_batches_damaged_samples_or_not(damaged, order):
    data = config(order=order)
    expected = global_batches(damaged, 1, config=data)
    assert len(expected) == 4
    assert any(one[-2] for batch in expected for one in batch)
    for world_size in WORLD_SIZES[1:]:
        assert global_batches(damaged, world_size, config=data) == expected


class Damaged(ShardSet):
    """A set in which the videos of some samples are not what their checksums say, as if the tar had changed."""

    def __init__(self, shards: ShardSet, bad):
        super().__init__(shards.folder, shards.manifest, shards.files)
        self.bad = bad

    def sample(self, index):
        sample = super().sample(index)
        return replace(sample, video=replace(sample.video, crc=sample.video.crc ^ 1)) if index in self.bad else sample


def next_healthy(order, place, streams, bad) -> int:
    """The id at the first healthy place of p, p + streams, p + 2 * streams, ..."""
    for step in range(len(order) // math.gcd(len(order), streams)):
        if (sample_id := order[(place + step * streams) % len(order)]) not in bad:
            return sample_id
    assume(False)


@settings(max_examples=15)
@given(
    world_size=st.sampled_from(WORLD_SIZES),
    per_rank=st.integers(1, 6),
    streams=st.integers(1, 9),
    bad=st.sets(st.integers(0, 99), max_size=60),
    epoch=st.integers(0, 3),
)
def test_any_split_delivers_the_next_healthy_of_the_stream(many_shards, world_size, per_rank, streams, bad, epoch):
    shards, global_batch = Damaged(ShardSet.open(many_shards), bad), world_size * per_rank
    order = epoch_order(shards.shard_numbers(), 0, epoch, block_shards=2, canonical_nodes=streams).tolist()
    found = global_batches(shards, world_size, global_batch, epoch, config=config(canonical_nodes=streams))
    assert len(found) == 100 // global_batch
    for step, batch in enumerate(found):
        places = sorted(range(step * global_batch, (step + 1) * global_batch), key=lambda place: (place % streams, place))
        assert [one[0] for one in batch] == [next_healthy(order, place, streams, bad) for place in places]
        assert [one[-2] for one in batch] == [order[place] in bad for place in places]
        assert all(one[-1] for one in batch)


@pytest.mark.parametrize("read_ahead", [0, 1, 7, 200])
def test_the_depth_of_reading_ahead_changes_nothing(damaged, read_ahead):
    assert global_batches(damaged, 2, config=config(read_ahead=read_ahead)) == global_batches(damaged, 2)


def test_an_example_is_that_of_its_sample_unchanged(damaged, healthy):
    whole = Source(healthy, config(), PRESETS["pretrain"], 0)
    with stream(damaged) as delivered:
        order = delivered._sampler.order(0)
        places = delivered._sampler.places()
        for step in delivered.epoch(0):
            for asked, example in zip(order[places[step.number * 6 :][:6]], step.examples, strict=True):
                assert row(example) == row(whole(0, example.sample.id, drawn_for=int(asked)))


@settings(max_examples=10)
@given(taken=st.integers(0, 36), world_size=st.sampled_from((1, 2, 4)), then=st.sampled_from((1, 2, 4)))
def test_a_state_goes_on_at_any_step_and_on_any_number_of_ranks(damaged_folder, taken, world_size, then):
    """Over three epochs of 12 steps of 8, so that what was found in one is passed over in the next."""
    shards = ShardSet.open(damaged_folder)
    whole = run(shards, 1, 36)
    first = run(shards, world_size, taken, states := [])
    second = run(shards, then, 36 - taken, state=states[0])
    assert first + second == whole


def run(shards, world_size, steps, states=None, state=None) -> list[list[tuple]]:
    """The global batches of so many steps of several ranks that exchange what they find; appends the state after them."""
    together = Together(world_size)
    streams = [
        stream(shards, batch_size=8 // world_size, rank=rank, world_size=world_size, exchange=together.exchange(rank))
        for rank in range(world_size)
    ]

    def work(rank):
        one, taken = streams[rank], []
        if state:
            one.load_state_dict(json.loads(json.dumps(state)))
        while len(taken) < steps:
            with closing(iter(one)) as rest:
                taken += [rows(step) for step in islice(rest, steps - len(taken))]
        after = one.state_dict()
        one.close()
        return taken, after

    with ThreadPoolExecutor(world_size) as threads:
        results = list(threads.map(work, range(world_size)))
    assert all(after == results[0][1] for _, after in results)
    if states is not None:
        states.append(results[0][1])
    return [list(chain(*parts)) for parts in zip(*(taken for taken, _ in results), strict=True)]


class Together:
    """An exchange between threads, each of them a rank."""

    def __init__(self, world_size):
        self._barrier, self._boxes = threading.Barrier(world_size, timeout=60), [None] * world_size

    def exchange(self, rank):
        def exchanged(own):
            self._boxes[rank] = own
            self._barrier.wait()
            boxes = list(self._boxes)
            self._barrier.wait()
            return boxes

        return exchanged


def test_a_sample_found_damaged_is_not_read_again_in_later_epochs(damaged):
    with stream(damaged, config=config(read_ahead=0)) as one:
        for _ in one.epoch(0):
            pass
        found = {damage.sample_id for damage in one.quarantine}
        assert found <= set(DAMAGED)
        assert len(found) >= 4
        with pytest.MonkeyPatch.context() as patch:
            asked = []
            request = one._source.request
            patch.setattr(one._source, "request", lambda *which, **how: (asked.append(which[1]), request(*which, **how))[1])
            substituted = [name for step in one.epoch(1) for name in step.substituted]
        assert not found & set(asked)
        assert any(substituted)


def test_damage_found_in_an_epoch_is_named_with_it(damaged):
    with stream(damaged, batch_size=1) as one:
        for _ in one.epoch(2):
            pass
        assert [(damage.sample_id, damage.epoch) for damage in one.quarantine] == [(sample, 2) for sample in DAMAGED]
        for damage in one.quarantine:
            sample = damaged.sample(damage.sample_id)
            assert (damage.key, damage.shard) == (sample.key, sample.shard.name)
            assert damage.reason == f"its video (at byte {sample.video.offset}) is damaged"


def test_a_state_counts_what_was_delivered_not_what_was_read(damaged):
    with stream(damaged, config=config(read_ahead=90), batch_size=1) as one:
        steps = one.epoch(0)
        delivered = [next(steps) for _ in range(10)]
        state = one.state_dict()
    assert (state["epoch"], state["step"]) == (0, 10)
    assert state["substituted"] == sum(int(step.substituted[0]) for step in delivered)
    assert len(state["quarantine"]) <= 10 + sum(len(step.damages) for step in delivered)
    assert {damage["sample_id"] for damage in state["quarantine"]} == {d.sample_id for step in delivered for d in step.damages}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"batch_size": 7}, "global_batch was 6 and is now 7"),
        ({"config": config(order="global")}, "order was block and is now global"),
        ({"config": config(block_shards=3)}, "block_shards was 2 and is now 3"),
        ({"config": config(canonical_nodes=2)}, "canonical_nodes was 4 and is now 2"),
    ],
)
def test_a_state_of_another_order_is_refused_with_both_values(healthy, changes, says):
    with stream(healthy) as before, stream(healthy, **changes) as now, pytest.raises(ValueError, match=says):
        now.load_state_dict(before.state_dict())


def test_a_state_of_other_shards_is_refused(healthy, tiny_shards):
    expected = r"num_samples was 100 and is now 12; shards_sha256 was .* go on with the same"
    with (
        stream(healthy) as before,
        stream(ShardSet.open(tiny_shards)) as now,
        pytest.raises(ValueError, match=expected),
    ):
        now.load_state_dict(before.state_dict())


def test_more_damage_than_allowed_stops_the_epoch_after_the_batch_that_has_it(damaged):
    with stream(damaged, config=config(max_bad_share=0.03), batch_size=1) as one:
        assert one.max_substituted == 3
        steps, seen = one.epoch(0), []
        while sum(seen) < 4:
            seen += next(steps).substituted.tolist()
        with pytest.raises(TooManyDamaged, match=r"4 clips of epoch 0 .* 0.03 allows 3 of 100\. Damaged: .* Copy") as stopped:
            next(steps)
        assert all(f"sample {damage.key}: {damage.reason}" in str(stopped.value) for damage in one.quarantine)


def test_a_share_is_that_of_an_epoch(damaged):
    with stream(damaged, config=config(max_bad_share=0.06), batch_size=1) as one:
        for epoch in range(3):
            assert sum(int(step.substituted[0]) for step in one.epoch(epoch)) == one.substituted == 6


@pytest.mark.parametrize(("share", "tried"), [(1.0, 100), (0.5, 51), (0.01, 16)])
def test_samples_that_are_all_damaged_are_an_error_that_names_some(healthy, share, tried):
    expected = f"{tried} samples in a row are damaged; .*Damaged: train-0.*, and {tried - 5} more"
    with stream(Damaged(healthy, range(100)), config=config(max_bad_share=share)) as one:
        steps = one.epoch(0)
        with pytest.raises(TooManyDamaged, match=expected):
            next(steps)


def test_evaluation_marks_what_it_drops_and_fills_the_last_batch(damaged):
    for world_size in (1, 2, 3):
        delivered, dropped = [], []
        for rank in range(world_size):
            with stream(damaged, "eval", batch_size=8, rank=rank, world_size=world_size) as one:
                steps = list(one.epoch(0))
                assert len(steps) == len(one) == -(-100 // (8 * world_size))
                dropped += one.dropped
                delivered += [one[0] for step in steps for one in rows(step) if one[-1]]
                assert all(len(step.examples) == 8 and not step.substituted.any() for step in steps)
                assert len(one.quarantine) == 0
        assert sorted(delivered) == [sample for sample in range(100) if sample not in DAMAGED]
        assert sorted(key for key, _ in dropped) == sorted(damaged.sample(sample).key for sample in DAMAGED)
        assert all("is damaged" in reason for _, reason in dropped)


def test_evaluation_delivers_in_stored_order_and_again_in_the_next_pass(damaged):
    with stream(damaged, "eval", batch_size=7) as one:
        for epoch in (0, 1):
            found = [one[0] for step in one.epoch(epoch) for one in rows(step) if one[-1]]
            assert found == [sample for sample in range(100) if sample not in DAMAGED]
            assert len(one.dropped) == len(DAMAGED)


@pytest.mark.parametrize("bad", [range(8), range(50), range(99)])
def test_a_batch_without_a_healthy_sample_is_filled_all_the_same(healthy, bad):
    with stream(Damaged(healthy, bad), "eval", batch_size=8) as one:
        assert sum(step.valid.sum() for step in one.epoch(0)) == 100 - len(bad)


def test_evaluation_of_nothing_healthy_is_an_error(healthy):
    with (
        stream(Damaged(healthy, range(100)), "eval", batch_size=8) as one,
        pytest.raises(TooManyDamaged, match="no sample is healthy"),
    ):
        next(one.epoch(0))


def test_storage_that_fails_is_not_taken_for_damage(healthy):
    class Failing(LocalFiles):
        def ensure(self, name, stop=None):
            raise StorageError("the network is down")

    shards = ShardSet(healthy.folder, healthy.manifest, Failing(healthy.folder))
    for preset in PRESETS:
        with stream(shards, preset) as one, pytest.raises(StorageError, match="network is down"):
            list(one.epoch(0))


def test_a_missing_shard_is_damage_of_its_samples(healthy, tmp_path):
    shutil.copytree(healthy.folder, tmp_path / "copy")
    shards = ShardSet.open(tmp_path / "copy")
    gone = shards.sample(20).shard
    gone.unlink()
    with stream(shards, batch_size=1) as one:
        delivered = {one[0] for step in one.epoch(0) for one in rows(step)}
        lost = [index for index in range(100) if shards.sample(index).shard == gone]
        assert delivered == set(range(100)) - set(lost)
        assert [damage.sample_id for damage in one.quarantine] == lost
        assert all("cannot be read: No such file" in damage.reason for damage in one.quarantine)


def test_a_cache_too_small_for_what_is_read_at_a_time_is_refused_with_the_number(healthy):
    class Small(LocalFiles):
        capacity_bytes = 10**5

    shards = ShardSet(healthy.folder, healthy.manifest, Small(healthy.folder))
    with pytest.raises(ValueError, match=r"data.cache_bytes: 100000 is too little: .* shards of (\d+) bytes") as refused:
        stream(shards)
    Small.capacity_bytes = int(re.search(r"shards of (\d+)", str(refused.value))[1])
    stream(shards).close()


def test_the_cache_asked_for_is_enough_in_every_epoch(tmp_path_factory):
    """Of shards of many sizes, of which each epoch has others at hand together."""
    folder = tmp_path_factory.mktemp("sizes") / "shards"
    write_random_shards(folder, samples=600, shard_samples=10, video_bytes=500, seconds=0.2)
    shards = ShardSet.open(folder)
    sizes = [1000 * (1 + number % 17) for number in range(len(shards.manifest.shards))]
    records = [shard.model_copy(update={"tar_bytes": size}) for shard, size in zip(shards.manifest.shards, sizes, strict=True)]
    manifest = shards.manifest.model_copy(update={"shards": tuple(records), "num_bytes": sum(sizes)})

    class Small(LocalFiles):
        capacity_bytes = 1
        most = 0

        def ahead(self, names):
            self.most = max(self.most, sum(sizes[int(name.split("-")[-1])] for name in names))

    files = Small(folder)
    data = config(block_shards=3, canonical_nodes=7, clip_seconds=0.25)
    arguments = {"batch_size": 4, "world_size": 2, "config": data}
    with pytest.raises(ValueError, match="too little") as refused:
        stream(ShardSet(folder, manifest, files), **arguments)
    files.capacity_bytes = int(re.search(r"shards of (\d+)", str(refused.value))[1])
    with stream(ShardSet(folder, manifest, files), **arguments) as one:
        for epoch in range(12):
            for _ in one.epoch(epoch):
                pass
    assert files.capacity_bytes / 2 < files.most <= files.capacity_bytes


def test_nothing_is_copied_ahead_any_more_after_an_error(damaged):
    """The generator that tells the files what comes lives as long as the error's traceback, and is not collected before."""
    told = []

    class Noting(LocalFiles):
        def ahead(self, names):
            told.append(list(names))

    shards = ShardSet(damaged.folder, damaged.manifest, Noting(damaged.folder))
    with stream(Damaged(shards, range(100))) as one:
        steps = one.epoch(0)
        with pytest.raises(TooManyDamaged) as stopped:
            next(steps)
        assert told[-1] == []
        assert stopped.traceback


def test_the_files_are_told_which_shards_come_before_they_are_read(healthy):
    told = []

    class Noting(LocalFiles):
        def ahead(self, names):
            told.append(list(names))

        def ensure(self, name, stop=None):
            assert name in told[-1]
            return super().ensure(name)

    with stream(ShardSet(healthy.folder, healthy.manifest, Noting(healthy.folder)), config=config(canonical_nodes=1)) as one:
        for _ in one.epoch(0):
            pass
    assert told[-1] == []
    assert 3 <= max(map(len, told)) < 15


def readers() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def finish(one, steps):
    list(steps)


def fail(one, steps):
    with suppress(KeyError), one:
        for _ in steps:
            raise KeyError


def close(one, steps):
    one.close()


def start_another(one, steps):
    list(one.epoch(1))
    assert list(steps) == []


@pytest.mark.parametrize("ending", [finish, fail, close, start_another])
def test_no_thread_is_left_however_it_ends(healthy, ending):
    one = stream(healthy)
    steps = one.epoch(0)
    next(steps)
    assert readers() > 0
    ending(one, steps)
    assert readers() == 0


def test_no_thread_and_no_tar_is_left_of_a_forgotten_stream(healthy):
    for shard in range(len(healthy.manifest.shards)):
        healthy.sample(shard * 7)  # opens the sidecars, which stay
    gc.collect()
    before = descriptors()
    one = stream(healthy)
    steps = one.epoch(0)
    next(steps)
    assert descriptors() > before
    del one, steps
    gc.collect()
    assert readers() == 0
    assert descriptors() == before


def test_ctrl_c_leaves_no_thread(healthy):
    code = f"""
import threading
from tests.pipelines.test_stream import ShardSet, config, stream
try:
    with stream(ShardSet.open({str(healthy.folder)!r}), config=config(read_ahead=64)) as one:
        for epoch in range(10**6):
            for step in one.epoch(epoch):
                if (epoch, step.number) == (1, 2):
                    print("going", flush=True)
except KeyboardInterrupt:
    print([thread.name for thread in threading.enumerate()], flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "going\n"
    os.kill(child.pid, signal.SIGINT)
    assert child.stdout.readline() == "['MainThread']\n"
    assert child.wait(timeout=60) == 0
