"""What the loader gives of one stream, where the set has it alone or it alone is asked for."""

import pytest
import torch

from tests.media import write_clip
from tests.pipelines.damage import copy_with_damage
from tests.pipelines.epochs import epoch, rows, small
from xkd.pipelines.convert.sources import DATASETS, Dataset
from xkd.pipelines.convert.sources.folder import list_folder
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.views.presets import PRESETS

VIEWS = {"video": ("video_global", "video_local"), "audio": ("audio_global", "audio_local")}
OTHER = {"video": "audio", "audio": "video"}


@pytest.mark.parametrize("stream", VIEWS)
@pytest.mark.parametrize("preset", PRESETS)
def test_views_of_the_stream_asked_for_are_the_same_and_the_others_are_none(shards, preset, stream):
    """The streams of these samples are of equal length, so that the same clips are drawn."""
    assert all(shards.sample(k).audio.samples == 2000 * shards.sample(k).video.frames for k in range(len(shards)))
    both, alone = (epoch(shards, preset=preset, streams=streams) for streams in (("video", "audio"), (stream,)))
    for found, expected in zip(alone, both, strict=True):
        assert (found.keys, found.labels.tolist()) == (expected.keys, expected.labels.tolist())
        for name in VIEWS[stream]:
            if getattr(expected, name) is None:
                assert getattr(found, name) is None
            else:
                assert torch.equal(getattr(found, name), getattr(expected, name))
        assert [getattr(found, name) for name in VIEWS[OTHER[stream]]] == [None, None]


def test_damage_in_a_stream_that_is_not_asked_for_is_of_no_matter(shards, tmp_path):
    damaged = copy_with_damage(shards, tmp_path / "copy", 0, 9)
    with Loader(damaged, small(), preset="eval", batch_size=4, streams=("audio",)) as loader:
        assert sum(int(batch.valid.sum()) for batch in loader.epoch(0)) == 12
        assert loader.dropped == []


@pytest.fixture(scope="module")
def partly_silent(tmp_path_factory):
    """Shards of four clips, of which two have no sound."""
    root = tmp_path_factory.mktemp("partly silent")
    for number in range(2):
        write_clip(root / "media" / "a" / f"loud {number}.mp4", seconds=1.5)
        write_clip(root / "media" / "a" / f"silent {number}.mp4", sound=None, seconds=1.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "some", Dataset(list_folder, streams="video, sound optional"))
        write_shards(root / "media", root / "shards", dataset="some", split="train", workers=1)
    return ShardSet.open(root / "shards")


def test_silent_samples_are_seen_and_left_out_where_sound_is_asked_for(partly_silent):
    (pictures,) = epoch(partly_silent, preset="eval", streams=("video",))
    assert len(set(pictures.keys)) == 4
    assert pictures.valid.all()
    for streams in (("video", "audio"), ("audio",)):
        with Loader(partly_silent, small(), preset="eval", batch_size=4, streams=streams) as loader:
            (batch,) = loader.epoch(0)
            assert sorted(key[:6] for key in batch.counted().keys) == ["loud-0", "loud-1"]
            assert sorted(key[:8] for key, _ in loader.dropped) == ["silent-0", "silent-1"]
            assert {reason for _, reason in loader.dropped} == {"it has no sound"}


def test_training_leaves_out_and_counts_what_lacks_a_stream(partly_silent):
    with Loader(partly_silent, small(), preset="finetune", batch_size=2) as loader:
        assert (loader.too_short, len(loader)) == (2, 1)
        (batch,) = loader.epoch(0)
        assert all(key.startswith("loud") for key in batch.keys)
    with Loader(partly_silent, small(), preset="finetune", batch_size=2, streams=("video",)) as loader:
        assert (loader.too_short, len(loader)) == (0, 2)


def test_flac_gives_the_batches_of_pcm16(media_folder, shards, tmp_path):
    write_shards(media_folder, tmp_path / "flac", split="train", workers=1, shard_samples=8, audio="flac")
    flac = ShardSet.open(tmp_path / "flac")
    found, expected = (rows(epoch(one, preset="pretrain")) for one in (flac, shards))
    assert found.keys() == expected.keys()
    for sample in found:
        assert torch.equal(found[sample]["audio_global"], expected[sample]["audio_global"])
        assert torch.equal(found[sample]["audio_local"], expected[sample]["audio_local"])


def test_a_sound_shorter_than_the_clip_ends_in_silence(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "some", Dataset(list_folder, streams="audio"))
        write_clip(tmp_path / "media" / "a" / "short.wav", picture=None, audio_codec="pcm_s16le", seconds=0.5)
        write_shards(tmp_path / "media", tmp_path / "shards", dataset="some", split="train", workers=1)
    short = ShardSet.open(tmp_path / "shards")
    for preset in ("finetune", "svm", "eval"):
        (batch,) = epoch(short, small(eval_clips=2), preset=preset, batch_size=1, streams=("audio",))
        sound = batch.audio_global[0, 0]
        silence = sound[:, -1]
        assert (sound[:, :18] > silence[:, None] + 0.5).any(dim=0).all()  # 0.5 s are 20 columns of 25 ms
        assert (sound[:, 24:] == silence[:, None]).all()
