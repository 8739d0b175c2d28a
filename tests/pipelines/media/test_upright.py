import av
import numpy as np
import pytest

from tests.media import write_clip
from xkd.pipelines.convert.sources.item import Location
from xkd.pipelines.media.decode import open_pictures
from xkd.pipelines.media.upright import upright

# The four quarters of a picture that is white at its top left, grey at its top right, and black below.
QUARTERS = np.array([[235, 126], [16, 16]])


def quarters(time, height, width):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2] = 128
    picture[: height // 2, : width // 2] = 255
    return picture


def bar(time, height, width):
    """A vertical bar that moves fast, the same in every line."""
    picture = np.zeros((height, width, 3), np.uint8)
    left = int(width * (0.8 * time % 1))
    picture[:, left : left + 20] = 255
    return picture


def clean_luma(path, **settings):
    with open_pictures(Location(path), multiple=16, **settings) as pictures:
        return np.stack([frame.to_ndarray()[: pictures.height] for frame in pictures.frames]).astype(int)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_stored_the_way_they_are_to_be_shown(tmp_path, suffix, rotation, flipped):
    path = tmp_path / f"clip{suffix}"
    write_clip(path, picture=quarters, height=128, width=256, rotation=rotation, flipped=flipped, sound=None, seconds=0.5)
    frame = clean_luma(path, fps=8, short_side=128)[-1]
    height, width = frame.shape
    assert (height, width) == ((128, 256) if rotation in (0, 180) else (256, 128))
    expected = np.rot90(QUARTERS, rotation // 90)
    found = frame[[[height // 4], [3 * height // 4]], [width // 4, 3 * width // 4]]
    np.testing.assert_allclose(found, np.fliplr(expected) if flipped else expected, atol=3)


def test_the_fields_of_interlaced_pictures_are_joined(tmp_path):
    path = tmp_path / "clip.mp4"
    settings = {"picture": bar, "height": 256, "width": 256, "fps": 25, "seconds": 1.0, "sound": None}
    write_clip(path, **settings, interlaced=True, video_options={"crf": "10"})
    with av.open(str(path)) as container:
        raw = np.stack([frame.to_ndarray()[:256] for frame in container.decode(video=0)]).astype(int)
    clean = clean_luma(path, fps=25, short_side=256)
    assert clean.shape == raw.shape
    assert np.abs(np.diff(raw, axis=1)).mean() > 5
    assert np.abs(np.diff(clean, axis=1)).mean() < 0.5
    left = [(frames[:, 1::2].mean(axis=1) > 128).argmax(axis=1) for frames in (raw, clean)]
    assert np.abs(left[0] - left[1]).max() <= 1  # where the first field shows it; in the second it is 4 pixels on


def test_frames_that_become_interlaced_midway_are_all_there_in_order(tmp_path):
    settings = {"picture": bar, "height": 64, "width": 64, "fps": 25, "seconds": 0.4, "sound": None}
    paths = [write_clip(tmp_path / f"{interlaced}.mp4", **settings, interlaced=interlaced) for interlaced in (False, True, False)]
    frames = []
    for path in paths:
        with av.open(str(path)) as container:
            frames += list(container.decode(video=0))
    timed = [(index, index + 1, frame) for index, frame in enumerate(frames)]
    found = list(upright(timed))
    assert [(begin, end) for begin, end, _ in found] == [(begin, end) for begin, end, _ in timed]
    assert all(before is after for (_, _, before), (_, _, after) in zip(timed[:10], found[:10], strict=True))
