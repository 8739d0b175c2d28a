"""The rates between two readings of a meter."""

import pytest
import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.train.meter import Meter, memory
from xkd.train.utilisation import Utilisation

DATA = DataConfig(
    train="unused",
    clip_seconds=1.0,
    video={"fps": 8, "global_view": {"size": 16}, "local_view": {"count": 0}},
    audio={"hop": 400, "local_view": {"count": 0}},
)
CPUS = Utilisation(ranks=1, gpu=None, flops_per_clip=10**9)
SHARES = [f"data_{stage}_share" for stage in ("read", "feed", "decode", "finish", "wait")]


@pytest.fixture
def loader(tiny_shards):
    with Loader(ShardSet.open(tiny_shards), DATA, preset="pretrain", batch_size=4) as loader:
        yield loader


def test_an_epoch_has_a_share_for_each_stage_and_those_of_the_consumer_are_parts_of_waiting(loader):
    meter = Meter(loader, CPUS, clips_per_step=4, step=10)
    list(loader.epoch(0))
    rates = meter.rates(13)
    assert list(rates) == ["clips_per_second", *SHARES]
    assert min(rates.values()) > 0
    feed, decode, finish, wait = (rates[name] for name in SHARES[1:])
    assert feed + decode + finish <= wait <= 1


def test_clips_and_shares_are_of_the_same_stretch_of_time(loader):
    meter = Meter(loader, CPUS, clips_per_step=12, step=0)
    before = loader.stage_seconds
    list(loader.epoch(0))
    rates = meter.rates(1)
    seconds = 12 / rates["clips_per_second"]
    for stage, spent in loader.stage_seconds.items():
        assert rates[f"data_{stage}_share"] * seconds == pytest.approx(spent - before[stage])


def test_what_was_before_a_reading_is_not_counted_again(loader):
    list(loader.epoch(0))
    meter = Meter(loader, CPUS, clips_per_step=4, step=3)
    assert set(meter.rates(3).values()) == {0}
    list(loader.epoch(1))
    assert min(meter.rates(6).values()) > 0
    assert set(meter.rates(6).values()) == {0}


def test_rates_of_gpus_are_those_of_the_same_stretch_of_time(loader):
    meter = Meter(loader, Utilisation(ranks=4, gpu="NVIDIA A100-SXM4-80GB", flops_per_clip=10**9), clips_per_step=4, step=0)
    list(loader.epoch(0))
    rates = meter.rates(3)
    assert rates["clips_per_second_per_gpu"] == rates["clips_per_second"] / 4
    assert rates["mfu"] == pytest.approx(rates["clips_per_second_per_gpu"] * 1e9 / 312e12)


def test_memory_is_that_of_this_process():
    before = memory()["host_memory_gib"]
    held = bytearray(2**28)
    assert memory()["host_memory_gib"] - before == pytest.approx(0.25, abs=0.05)
    assert ("gpu_memory_peak_gib" in memory()) == torch.cuda.is_available()
    del held
