"""Picture and sound of every view are of the same moment."""

from itertools import chain

import pytest

from tests.media import click, flash, write_clip
from tests.pipelines.epochs import epoch
from xkd.pipelines.config import DataConfig
from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture(scope="module")
def flash_and_click(tmp_path_factory):
    """Shards of one clip that turns white and loud at the same moment."""
    root = tmp_path_factory.mktemp("flash")
    write_clip(root / "media/one/clip.mp4", picture=flash(1.5, 2), sound=click(1.5, 2), seconds=4, fps=8)
    write_shards(root / "media", root / "shards", split="train", workers=1)
    return ShardSet.open(root / "shards")


def assert_together(picture, sound) -> bool:
    """Whether a view holds the moment; then its picture [3, T, H, W] and its sound [1, F, S], 100 columns a second, agree on it."""
    bright, loud = picture.mean((0, 2, 3)) > 0, sound[0].amax(0) > 0
    if not bright.any() or bright[0]:
        return False
    # A frame is shown until the next one, so the picture comes up to a frame later than the sound.
    assert -0.05 < float(bright.int().argmax() / 8 - loud.int().argmax() / 100) < 1 / 8 + 0.05
    return True


def moments(**changes) -> DataConfig:
    still = {"brightness": 0, "contrast": 0, "blur": 0}
    return DataConfig(
        train="unused",
        clip_seconds=1.0,
        video={"global_view": {"size": 16} | still, "local_view": {"count": 0, "size": 16, "frames": 4} | still},
        audio={"hop": 160, "n_fft": 512, "local_view": {"count": 0, "seconds": 0.5, "resize_crop": False}},
    ).model_copy(update=changes)


@pytest.mark.parametrize("preset", ["pretrain", "linear", "finetune"])
def test_picture_and_sound_of_a_view_start_together(flash_and_click, preset):
    with Loader(flash_and_click, moments(), preset=preset, batch_size=1) as loader:
        batches = chain.from_iterable(loader.epoch(number) for number in range(30))
        assert sum(assert_together(batch.video_global[0], batch.audio_global[0]) for batch in batches) > 5


@pytest.mark.parametrize("eval_clips", [1, 4, 9])
def test_picture_and_sound_of_an_evaluated_clip_start_together(flash_and_click, eval_clips):
    config = moments(eval_clips=eval_clips, eval_crops=3)
    (batch,) = epoch(flash_and_click, config, preset="eval", batch_size=1)
    pictures = batch.video_global.unflatten(0, (eval_clips, 3))
    assert len(batch.audio_global) == eval_clips
    seen = sum(assert_together(picture, batch.audio_global[clip]) for clip in range(eval_clips) for picture in pictures[clip])
    assert seen >= 3 * (eval_clips // 4)


def test_aligned_local_views_start_together(flash_and_click):
    config = moments()
    one = {name: getattr(config, name).model_copy() for name in ("video", "audio")}
    for name, stream in one.items():
        one[name] = stream.model_copy(update={"local_view": stream.local_view.model_copy(update={"count": 1})})
    config = config.model_copy(update=one | {"aligned_locals": True})
    with Loader(flash_and_click, config, preset="pretrain", batch_size=1) as loader:
        batches = chain.from_iterable(loader.epoch(number) for number in range(60))
        assert sum(assert_together(batch.video_local[0, 0], batch.audio_local[0, 0]) for batch in batches) > 5
