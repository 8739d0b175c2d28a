"""Views that are made without the data pipeline, held to its own."""

import numpy as np
import pytest
import torch

import xkd
from tests.media import click, flash, write_clip
from xkd.encoder.media import rgb
from xkd.pipelines.inspect.stored import audio_member, decoded_frames, read_member, video_member
from xkd.pipelines.loader import Loader
from xkd.pipelines.media.encode import AUDIO_CODECS
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture(scope="module")
def encoder(exported):
    return xkd.load_encoder(exported)


@pytest.fixture(scope="module")
def shards(tiny_shards):
    return ShardSet.open(tiny_shards)


def stored(shards, number):
    """The frames and the sound of a sample, as its shard has them."""
    sample, profile = shards.sample(number), shards.manifest.settings.profile
    frames = rgb(decoded_frames(read_member(sample.shard, video_member(sample.key, sample.video, profile))))
    sound, rate = AUDIO_CODECS[profile.audio.codec].decode(
        read_member(sample.shard, audio_member(sample.key, sample.audio, profile))
    )
    return {"frames": frames, "fps": profile.video.fps, "waveform": torch.tensor(sound), "sample_rate": rate}


@pytest.mark.parametrize(("clips", "crop_from"), [(1, "source"), (2, "source"), (1, "resized")])
def test_views_of_what_shards_hold_are_the_pipeline_s(encoder, shards, architecture, clips, crop_from, monkeypatch):
    config = architecture.data.model_copy(update={"eval_clips": clips, "crop_from": crop_from})
    with Loader(shards, config, preset="eval", batch_size=12) as loader:
        batch = next(iter(loader.epoch(0)))
    theirs = {"video": batch.video_global.unflatten(0, (12, clips)), "audio": batch.audio_global.unflatten(0, (12, clips))}
    data = encoder.description.data.model_copy(update={"crop_from": crop_from})
    monkeypatch.setattr(encoder, "description", encoder.description.model_copy(update={"data": data}))
    level = 1 / 255 / 0.226
    for number in range(12):
        ours = encoder.preprocess(**stored(shards, number), clips=clips)
        differences = (ours["video"] - theirs["video"][number]).abs()
        assert differences.mean() < 0.1 * level
        assert differences[..., 1:-1, 1:-1].max() < 3 * level  # at the edges DALI repeats the outermost pixels
        torch.testing.assert_close(ours["audio"], theirs["audio"][number], atol=1e-3, rtol=0)


def test_views_of_a_file_are_near_those_of_its_shard(encoder, shards, architecture, media_folder):
    with Loader(shards, architecture.data, preset="eval", batch_size=12) as loader:
        batch = next(iter(loader.epoch(0)))
    files = {path.stem.replace(" ", "-"): path for path in media_folder.glob("*/*.mp4")}
    for number, key in enumerate(batch.keys):
        views = encoder.preprocess(files[key.rpartition("-")[0]])
        assert (views["video"][0] - batch.video_global[number]).abs().mean() < 0.1
        assert (views["audio"][0] - batch.audio_global[number]).abs().max() < 1e-3


def test_pictures_and_sound_of_a_file_are_of_the_same_moment(encoder, tmp_path):
    path = write_clip(tmp_path / "flash.mp4", picture=flash(1.5), sound=click(1.5), seconds=4.0, fps=24)
    views = encoder.preprocess(path)  # the seconds 1 to 3, four frames each
    brightness = views["video"][0].mean((0, 2, 3))
    loudness = views["audio"][0, 0].max(0).values
    assert brightness.argmax() == 2
    assert loudness.argmax() / len(loudness) * 2 == pytest.approx(0.5, abs=0.3)


def test_a_short_video_starts_again_and_a_short_sound_ends_in_silence(encoder):
    frames = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 48, 64, 3) * 60
    waveform = torch.from_numpy(np.random.default_rng(0).normal(size=8000)).float() / 4
    views = encoder.preprocess(frames=frames, fps=4, waveform=waveform, sample_rate=16000)
    shown = views["video"][0]
    assert torch.equal(shown[:, :4], shown[:, 4:])
    assert not torch.equal(shown[:, 0], shown[:, 1])
    sound = views["audio"][0, 0]
    assert sound[:, -10:].max() == sound.min()


def test_the_last_frame_that_has_begun_is_shown(encoder):
    frames = torch.arange(25, dtype=torch.uint8).view(25, 1, 1, 1).expand(25, 32, 32, 3) * 10
    shown = encoder.preprocess(frames=frames, fps=10)["video"][0, 0, :, 0, 0]  # 2 s of 2.5 s, from 0.25 s on, at 4 fps
    std, mean = encoder.description.data.video.std[0], encoder.description.data.video.mean[0]
    assert ((shown * std + mean) * 25.5).round().int().tolist() == [2, 5, 7, 10, 12, 15, 17, 20]


FRAMES, SOUND = torch.zeros(20, 32, 32, 3, dtype=torch.uint8), torch.zeros(32000)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "preprocess: give a path, or frames"),
        ({"path": "a.mp4", "frames": FRAMES}, "preprocess: give a path, or frames"),
        ({"frames": FRAMES}, "fps: None is not the number of frames a second"),
        ({"frames": FRAMES.float(), "fps": 8}, "frames: torch.float32"),
        ({"frames": FRAMES.permute(0, 3, 1, 2), "fps": 8}, r"is not uint8 RGB \[T, H, W, 3\]"),
        ({"waveform": SOUND}, "sample_rate: None is not the 16000"),
        ({"waveform": SOUND, "sample_rate": 44100}, r"torchaudio.functional.resample\(waveform, 44100, 16000\)"),
        ({"waveform": SOUND[None], "sample_rate": 16000}, r"is not \[samples\]: mix the channels"),
    ],
)
def test_what_cannot_become_a_view_is_refused(encoder, given, says):
    with pytest.raises(ValueError, match=says):
        encoder.preprocess(**given)


def test_a_file_without_sound_is_refused_unless_its_pictures_are_enough(encoder, tmp_path):
    path = write_clip(tmp_path / "mute.mp4", sound=None)
    with pytest.raises(ValueError, match=r"mute\.mp4: it has no sound"):
        encoder.preprocess(path)
    assert list(encoder.preprocess(path, streams=["video"])) == ["video"]
