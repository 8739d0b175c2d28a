import io
import subprocess
import sys

import numpy as np
import pytest

from xkd.benchmarks import gpu_media
from xkd.benchmarks.gpu_media import CODECS, NUM_FRAMES, MediaSet


def test_frames_are_a_pure_function_of_clip_and_size():
    first, again, other = (gpu_media.frames(clip, 32, 48) for clip in (3, 3, 5))
    assert first.shape == (NUM_FRAMES, 32, 48, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_consecutive_frames_differ_by_more_than_their_grain():
    frames = gpu_media.frames(0, 128, 176).astype(np.int16)
    assert np.abs(np.diff(frames, axis=0)).mean() > 1.5 * np.sqrt(2) * gpu_media.GRAIN


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_decodes_to_the_drawn_frames(media, codec):
    import av

    for clip, video in enumerate(MediaSet.open(media).videos(codec, 128)):
        with av.open(io.BytesIO(video.tobytes())) as container:
            decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        drawn = gpu_media.frames(clip, 128, 176)
        assert decoded.shape == drawn.shape
        assert np.abs(decoded.astype(np.int16) - drawn).mean() < 8


def test_each_picture_is_a_whole_jpeg_file(media):
    clips = MediaSet.open(media).pictures(128)
    assert [len(clip) for clip in clips] == [NUM_FRAMES] * 2
    for picture in (picture for clip in clips for picture in clip):
        assert bytes(picture[:2]) == b"\xff\xd8"
        assert bytes(picture[-2:]) == b"\xff\xd9"


def test_a_folder_without_media_says_how_to_make_them(tmp_path):
    with pytest.raises(ValueError, match=r"holds no media\.json: make the media with .*gpu_media --out"):
        MediaSet.open(tmp_path)


def test_a_codec_whose_encoder_is_missing_is_left_out_and_its_absence_told(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu_media._ENCODERS, "hevc", ("no-such-encoder", "yuv420p", {}))
    media = gpu_media.write(tmp_path, clips=1, sizes=(128,), codecs=("vp9", "hevc"))
    assert list(media.description["codecs"]) == ["vp9"]
    with pytest.raises(ValueError, match=r"holds no hevc: PyAV .* has no no-such-encoder"):
        media.videos("hevc", 128)


def test_a_codec_that_the_shard_needs_and_is_missing_is_told(tmp_path):
    media = gpu_media.write(tmp_path, clips=1, sizes=(128,), codecs=("mjpeg",))
    with pytest.raises(ValueError, match="holds no vp9: it was not asked for"):
        _ = media.shards
    with pytest.raises(ValueError, match="holds no clips of short side 256"):
        media.videos("mjpeg", 256)


WITHOUT_PYAV = "import sys; sys.modules['av'] = None\n"


def test_media_are_read_and_checks_are_listed_without_pyav(media):
    script = WITHOUT_PYAV + (
        "from xkd.benchmarks import decode, gpu_check, gpu_media, harness, results\n"
        f"media = gpu_media.MediaSet.open({str(media)!r})\n"
        "assert len(media.videos('vp9', 128)) == len(media.pictures(128)) == 2\n"
        "with gpu_check.media_folder(None, ['loader-clips']) as made: assert made is None\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.long  # imports all that trains
def test_clips_are_loaded_to_train_on_without_pyav(media):
    script = WITHOUT_PYAV + (
        "import xkd.train.run, xkd.train.pretraining\n"
        "from pathlib import Path\n"
        "from xkd.benchmarks.gpu_loader import shards_of, views_by_sample\n"
        f"with shards_of(Path({str(media)!r}), 4) as shards:\n"
        "    assert sorted(views_by_sample(shards, 'cpu', {'batch_size': 2})) == [0, 1, 2, 3]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
