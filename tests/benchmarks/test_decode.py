from functools import partial

import numpy as np
import pytest

from xkd.benchmarks.decode import NEEDS, READS, Work, dali_pipeline, encoded_files, main, setup
from xkd.benchmarks.harness import measure
from xkd.benchmarks.needs import NOTHING
from xkd.benchmarks.results import read_csv
from xkd.env import gpu_names

ON_CPU = [(provider, codec) for provider, codecs in READS.items() if provider != "dali-gpu" for codec in codecs]
ABLE = [(provider, codec) for provider, codec in ON_CPU if NEEDS.get(provider, NOTHING).missing() is None]


@pytest.mark.parametrize(("provider", "codec"), ABLE)
def test_every_provider_decodes_what_it_says_it_reads(media, provider, codec):
    work = Work(media, codec, 128, clips=3, batch=2)
    (found,) = measure(partial(setup, work), [provider], rounds=2, warmup=0)
    assert found.items == 4


@pytest.mark.parametrize(("clips", "pipelines", "expected"), [(1, 1, 4), (8, 1, 8), (9, 1, 12), (8, 2, 8), (9, 2, 16)])
def test_a_round_decodes_whole_batches_on_every_pipeline(media, clips, pipelines, expected):
    work = Work(media, "jpeg", 128, clips=clips, batch=4, pipelines=pipelines)
    (found,) = measure(partial(setup, work), ["dali-cpu"], rounds=2, warmup=0)
    assert found.items == expected


def test_a_pipeline_ends_after_its_batches_and_starts_anew(media):
    work = Work(media, "vp9", 128, clips=4, batch=2)
    pipeline = dali_pipeline(work, encoded_files(work), "cpu")
    epochs = []
    for _ in range(2):
        epochs.append([np.array(pipeline.run()[0].as_array()) for _ in range(2)])
        with pytest.raises(StopIteration):
            pipeline.run()
        pipeline.reset()
    assert np.array_equal(epochs[0], epochs[1])


@pytest.mark.long
def test_the_command_measures_each_codec_with_each_provider_that_reads_it(media, tmp_path):
    arguments = ["--media", str(media), "--sizes", "128", "--clips", "2", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]
    assert main(arguments) == 0
    rows = read_csv(tmp_path / "rows.csv")
    found = {(row["provider"], row["case"].split()[0].removeprefix("codec=")): row["not_measured"] for row in rows}
    assert set(found) == {(provider, codec) for provider, codecs in READS.items() for codec in codecs}
    assert all(not found[pair] for pair in ABLE)
    if not gpu_names():
        assert {reason for (provider, _), reason in found.items() if provider == "dali-gpu"} == {"needs a GPU"}
