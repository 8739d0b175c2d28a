import numpy as np
import pytest

from xkd.benchmarks import startup
from xkd.benchmarks.harness import TOTAL
from xkd.benchmarks.random_shards import write_random_shards
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.startup import MARKS, repeat_shard
from xkd.pipelines.shards.index import ShardSet


def test_a_repeated_shard_is_a_set_of_as_many_clips(tmp_path):
    one = write_random_shards(tmp_path / "one", samples=5, shard_samples=5, video_bytes=2000, seconds=1)
    shards = ShardSet.open(repeat_shard(one, tmp_path / "many", 15))
    assert len(shards) == 15
    assert shards.shard_numbers().tolist() == np.repeat(range(3), 5).tolist()
    assert shards.sample(7).key == ShardSet.open(one).sample(2).key
    assert shards.sample(7).shard.read_bytes() == (one / "train-000000.tar").read_bytes()


def test_clips_that_fill_no_shard_are_refused():
    with pytest.raises(ValueError, match="not all multiples of 1000"):
        startup.main(["--clips", "1500"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_command_times_the_parts_of_a_start(tmp_path):
    overrides = ["train.global_batch=4", "optim.base_batch=4"]
    assert startup.main(["--rounds", "1", "--clips", "2000", "--csv", str(tmp_path / "rows.csv"), *overrides]) == 0
    total, *parts = read_csv(tmp_path / "rows.csv")
    assert total["part"] == TOTAL
    assert [row["part"] for row in parts] == list(MARKS)
    assert all(float(row["wall_p50_s"]) > 0 and row["clips"] == "2000" for row in parts)
    assert sum(float(row["wall_p50_s"]) for row in parts) == pytest.approx(float(total["wall_p50_s"]), rel=1e-3)
