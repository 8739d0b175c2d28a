import numpy as np

from xkd.benchmarks.linked_shards import repeat_shard
from xkd.benchmarks.random_shards import write_random_shards
from xkd.pipelines.shards.index import ShardSet


def test_a_repeated_shard_is_a_set_of_as_many_clips(tmp_path):
    one = write_random_shards(tmp_path / "one", samples=5, shard_samples=5, video_bytes=2000, seconds=1)
    shards = ShardSet.open(repeat_shard(one, tmp_path / "many", 15))
    assert len(shards) == 15
    assert shards.shard_numbers().tolist() == np.repeat(range(3), 5).tolist()
    assert shards.sample(7).key == ShardSet.open(one).sample(2).key
    assert shards.sample(7).shard.read_bytes() == (one / "train-000000.tar").read_bytes()
