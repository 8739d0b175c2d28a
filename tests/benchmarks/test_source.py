from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from xkd.benchmarks import source
from xkd.benchmarks.harness import measure
from xkd.benchmarks.random_shards import write_random_shards
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.source import BATCH_SIZE, READERS, SLOW_SAMPLES, Reader, setup
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.read import read_audio, read_video

COMMITTED = Path(__file__).parents[2] / "benchmarks" / "results" / "source.csv"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_random_shards(
        tmp_path_factory.mktemp("noise") / "shards", samples=4 * BATCH_SIZE, shard_samples=30, video_bytes=300, seconds=1.2
    )


def test_shards_of_random_bytes_are_whole(shards):
    opened = ShardSet.open(shards)
    assert len(opened) == 4 * BATCH_SIZE
    videos = {read_video(sample).tobytes() for sample in map(opened.sample, range(len(opened)))}
    assert len(videos) == len(opened)
    assert all(len(np.unique(read_audio(opened.sample(index), 0, 19200))) > 1000 for index in islice(range(128), 0, 128, 30))


@pytest.mark.parametrize("provider", [name for name, reader in READERS.items() if reader.read_ahead or not reader.delay_ms])
def test_a_round_reads_one_epoch(shards, provider):
    (found,) = measure(partial(setup, shards), [provider], rounds=1, warmup=0)
    assert found.items == 4 * BATCH_SIZE


def test_a_round_that_waits_for_each_sample_is_short(shards):
    (name,) = (name for name, reader in READERS.items() if reader == Reader(0, 20))
    (found,) = measure(partial(setup, shards), [name], rounds=1, warmup=0)
    assert found.items == SLOW_SAMPLES


@pytest.mark.long
def test_the_command_records_every_reader(tmp_path, capsys):
    assert source.main(["--samples", "256", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert [row["provider"] for row in rows] == list(READERS)
    assert all(float(row["items_per_s"]) > 0 and float(row["peak_mib"]) > 0 for row in rows)
    assert "with 20 ms added to every pread, read_ahead=256 keeps" in capsys.readouterr().out
