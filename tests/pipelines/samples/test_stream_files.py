"""What a stream tells the files of its shards, and what it needs of them."""

import re

import pytest

from tests.pipelines.streams import Damaged, config, stream
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.samples.quarantine import TooManyDamaged
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.shard_files import LocalFiles

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (replaced|left out)")


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
