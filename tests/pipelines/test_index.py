import numpy as np
import pytest

from xkd.pipelines.index import ShardSet


def test_samples_come_in_stored_order_with_their_shard(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    samples = [shards.sample(index) for index in range(len(shards))]
    assert [sample.id for sample in samples] == list(range(12))
    assert [sample.shard.name for sample in samples] == ["train-000000.tar"] * 8 + ["train-000001.tar"] * 4
    assert len({sample.key for sample in samples}) == 12


def test_labels_and_columns_agree_with_the_samples(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    samples = [shards.sample(index) for index in range(len(shards))]
    assert shards.classes == ["high", "low"]
    assert [(label,) for label in shards.labels()] == [sample.labels for sample in samples]
    assert all(sample.key.startswith(shards.classes[sample.labels[0]]) for sample in samples)
    assert np.array_equal(shards.column("video_frames"), [sample.video.frames for sample in samples])


@pytest.mark.parametrize("index", [-1, 12])
def test_a_sample_out_of_range_is_an_index_error(tiny_shards, index):
    with pytest.raises(IndexError, match=f"sample {index} of 12"):
        ShardSet.open(tiny_shards).sample(index)
