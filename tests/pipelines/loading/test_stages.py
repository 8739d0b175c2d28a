import os
from dataclasses import astuple

import pytest

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loading.stages import Cost, graph_prefixes, profile
from xkd.pipelines.views.presets import one_clip

STAGES = ["read", "transfer", "decode", "augment", "sound", "finish", "loader"]


def small(**changes) -> DataConfig:
    video = {"fps": 8, "global_view": {"size": 64}, "local_view": {"frames": 4, "size": 32}}
    return DataConfig(train="unused", clip_seconds=2.0, video=video, **changes)


@pytest.mark.parametrize("preset", ["pretrain", "finetune", "eval"])
def test_every_stage_is_timed_and_what_must_cost_something_does(shards, preset):
    costs = profile(shards, small(), preset=preset, batch_size=4, batches=2, rounds=2)
    assert list(costs) == STAGES
    for stage in ("read", "decode", "finish", "loader"):
        assert min(astuple(costs[stage])) > 0, stage


def test_a_stage_costs_what_it_adds():
    assert Cost(3.0, 5.0) - Cost(1.0, 2.0) == Cost(2.0, 3.0)


def test_the_last_prefix_is_the_whole_graph_and_each_holds_the_work_of_the_one_before():
    prefixes = list(graph_prefixes(one_clip(small())).values())
    assert list(prefixes[-1]) == ["video_global", "audio_global", "video_local", "audio_local"]
    assert prefixes == [["pcm"], ["pcm", "frames"], ["pcm", "video_global", "video_local"], prefixes[-1]]


def test_fewer_clips_than_asked_for_are_an_error(shards):
    with pytest.raises(ValueError, match=r"holds 3 batches of 4 clips, fewer than 4"):
        profile(shards, small(), batch_size=4, batches=4)


def test_no_thread_is_left(shards):
    profile(shards, small(), batch_size=4, batches=1, rounds=1)
    before = len(os.listdir("/proc/self/task"))
    profile(shards, small(), batch_size=4, batches=1, rounds=1)
    assert len(os.listdir("/proc/self/task")) == before
