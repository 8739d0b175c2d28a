import pytest

from tests.replicas import REPLICAS, write_replica
from xkd.pipelines.convert.sources import DATASETS
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet


@pytest.mark.parametrize("dataset", REPLICAS)
def test_a_replica_is_converted_wholly_and_holds_nothing_twice(dataset, tmp_path):
    source = write_replica(dataset, tmp_path / "source")
    splits = [split for split in DATASETS[dataset].splits if split not in ("test", "dev")]
    contents = []
    for split in splits:
        write_shards(source, tmp_path / split, dataset=dataset, split=split, workers=1)
        shards = ShardSet.open(tmp_path / split)
        found = shards.manifest.completeness
        assert (found.converted, found.failed) == (found.listed, 0)
        samples = [shards.sample(index) for index in range(len(shards))]
        contents += [(sample.video.crc, sample.audio.crcs) for sample in samples]
        assert {label for sample in samples for label in sample.labels} <= set(range(len(shards.classes)))
    assert len(set(contents)) == len(contents) > 0
