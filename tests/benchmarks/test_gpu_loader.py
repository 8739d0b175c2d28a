import numpy as np
import pytest

from xkd.benchmarks import gpu_loader
from xkd.benchmarks.findings import Context
from xkd.benchmarks.gpu_loader import (
    decoder_use,
    difference,
    mean_reading,
    same_everywhere,
    shards_of,
    views_by_sample,
)
from xkd.benchmarks.results import Recorder
from xkd.pipelines.shards.index import ShardSet

CLIPS = 6


@pytest.fixture(scope="module")
def shards(media):
    with shards_of(media, CLIPS) as folder:
        yield folder


def test_the_shards_hold_the_media_s_clips_again_and_again(shards):
    opened = ShardSet.open(shards)
    assert len(opened) == CLIPS
    assert opened.manifest.video_seconds == opened.manifest.audio_seconds == CLIPS * 4
    assert opened.sample(0).video.crc == opened.sample(2).video.crc != opened.sample(1).video.crc


def test_layouts_are_compared_sample_by_sample(shards, monkeypatch):
    layouts = ({"batch_size": 3}, {"batch_size": 2, "pipelines": 2})
    (findings,) = same_everywhere(shards, "cpu", layouts[0], layouts[1:])
    assert findings.wrong == []
    assert findings.facts == [{"layout": str(layouts[1]), "samples": CLIPS, "that differ": 0}]

    views = views_by_sample(shards, "cpu", layouts[0])
    changed = views | {3: [views[3][0] + 1e-6, *views[3][1:]]}
    answers = iter([views, changed])
    monkeypatch.setattr(gpu_loader, "views_by_sample", lambda *_: next(answers))
    (findings,) = same_everywhere(shards, "cpu", layouts[0], layouts[1:])
    assert findings.facts[0]["that differ"] == 1
    assert len(findings.wrong) == 1


def test_a_difference_between_devices_is_told_in_levels(shards):
    views = views_by_sample(shards, "cpu", {"batch_size": 2}, "eval")
    assert difference("eval", views, views).wrong == []
    brighter = {key: [picture + np.float32(5 / 255 / 0.229), sound] for key, (picture, sound) in views.items()}
    findings = difference("eval", brighter, views)
    assert findings.facts[0]["mean difference"] == pytest.approx(5, abs=1e-2)
    assert findings.wrong == ["eval video_global: differs from the CPU by 5.0000, more than 4.0"]
    louder = {key: [picture, sound + np.float32(0.01)] for key, (picture, sound) in views.items()}
    assert len(difference("eval", louder, views).wrong) == 1


def test_the_checks_run_on_a_cpu_too(media, monkeypatch):
    """Smaller, and of the sweeps the first two alone."""
    small = {"CLIPS": 8, "FEW_CLIPS": 4, "BATCH": 2, "LAYOUTS": ({"batch_size": 2}, {"batch_size": 4}), "PIPELINES": (2,)}
    for name, value in small.items():
        monkeypatch.setattr(gpu_loader, name, value)
    context = Context(media, Recorder.start("gpu-check", []), device="cpu")
    found = {
        check: list(check(context)) for check in (gpu_loader.identical, gpu_loader.against_cpu, gpu_loader.clips, gpu_loader.stages)
    }
    assert not [wrong for findings in found.values() for each in findings for wrong in each.wrong]
    assert [each.facts[0]["mean difference"] for each in found[gpu_loader.against_cpu]] == [0, 0]
    (clips,) = found[gpu_loader.clips]
    assert float(clips.rows[0]["items"]) == 8
    assert clips.facts[0]["stored bytes a clip"] > 100_000  # 4 s of sound in 16 bits, at 16 kHz
    assert {each.facts[0]["stage"] for each in found[gpu_loader.stages]} >= {"read", "decode", "augment", "loader"}


def test_decoder_use_is_nothing_where_nothing_tells_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with decoder_use() as used:
        pass
    assert used == []


def test_decoder_use_is_the_mean_of_what_is_told():
    assert mean_reading("40\n60\n[N/A]\n") == [50.0]
    assert mean_reading("") == []
