import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nvidia.dali import fn, pipeline_def, types

from tests.media import write_clip
from xkd.pipelines.media.encode import CODECS, encode_video
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.mp4 import index_fault
from xkd.pipelines.shards.read import read_video
from xkd.pipelines.shards.sidecar import VideoEntry
from xkd.pipelines.shards.trim import trimmed

COUNT, GOP, SIDE = 30, 8, 128


@pytest.fixture(scope="module")
def videos():
    """A video of 30 frames in each codec, in groups of 8."""
    made = {}
    for codec, settings_ in CODECS.items():
        rng = np.random.default_rng(0)
        pictures = [av.VideoFrame.from_ndarray(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8), "rgb24") for _ in range(COUNT)]
        frames = [picture.reformat(format="yuv420p") for picture in pictures]
        data, _ = encode_video(frames, codec=codec, fps=8, gop=GOP, quality=settings_.quality, height=SIDE, width=SIDE)
        made[codec] = np.frombuffer(data, np.uint8)
    return made


def decoded(video):
    with av.open(io.BytesIO(video.tobytes())) as container:
        return np.stack([frame.to_ndarray() for frame in container.decode(video=0)])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("first", "end"), [(0, 30), (7, 9), (8, 16), (9, 10), (21, 30)])
def test_what_is_left_decodes_to_the_same_frames(videos, codec, first, end):
    frames = np.arange(first, end, dtype=np.int32)
    part, numbers = trimmed(videos[codec], frames)
    assert numbers.dtype == np.int32
    np.testing.assert_array_equal(decoded(part)[numbers], decoded(videos[codec])[frames])


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_left_begins_with_the_key_frame_before_and_ends_with_the_last(videos, codec):
    part, numbers = trimmed(videos[codec], np.arange(18, 21, dtype=np.int32))
    key = 18 if codec == "mjpeg" else 16
    assert numbers.tolist() == [18 - key, 19 - key, 20 - key]
    assert len(decoded(part)) == 21 - key
    assert len(part) < len(videos[codec]) * (21 - key + 2) / COUNT + 1000
    assert index_fault(part, VideoEntry(0, len(part), 0, 21 - key, SIDE, SIDE)) is None


def test_frames_may_repeat_and_turn_back(videos):
    frames = (25 + np.arange(12)).astype(np.int32) % COUNT
    part, numbers = trimmed(videos["vp9"], frames)
    np.testing.assert_array_equal(decoded(part)[numbers], decoded(videos["vp9"])[frames])
    part, numbers = trimmed(videos["vp9"], np.array([20, 18, 18], np.int32))
    assert numbers.tolist() == [4, 2, 2]
    assert len(decoded(part)) == 5


def with_dali(video, frames):
    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def graph():
        encoded = fn.external_source(source=lambda: [video], dtype=types.UINT8, ndim=1)
        return fn.decoders.video(
            encoded, device="cpu", frames=fn.external_source(source=lambda: [frames], dtype=types.INT32, ndim=1)
        )

    pipeline = graph()
    pipeline.build()
    return np.array(pipeline.run()[0].at(0))


def test_dali_decodes_stored_samples_to_the_same_frames(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    for index in range(0, len(shards), 5):
        video = read_video(shards.sample(index))
        frames = np.arange(11, 19, dtype=np.int32)
        part, numbers = trimmed(video, frames)
        assert len(part) < 0.8 * len(video)
        np.testing.assert_array_equal(with_dali(part, numbers), with_dali(video, frames))


@pytest.mark.parametrize(
    "how",
    [
        {"sound": None, "video_options": {"bf": "2"}},  # shown in another order than stored
        {"seconds": 4.0},  # sound between the frames
        {"sound": None, "frame_times": [0, 0.1, 0.3, 0.7, 0.8, 1.5]},  # no constant rate
    ],
)
def test_what_the_converter_would_not_write_is_left_as_it_is(tmp_path, how):
    write_clip(tmp_path / "clip.mp4", **{"seconds": 2.0, "gop": 4} | how)
    video, frames = np.fromfile(tmp_path / "clip.mp4", np.uint8), np.array([5], np.int32)
    part, numbers = trimmed(video, frames)
    assert part is video
    assert numbers is frames


@settings(max_examples=300)
@given(place=st.integers(0, 899), value=st.integers(0, 255))
def test_no_damage_to_an_index_that_passes_the_check_raises(videos, place, value):
    video = videos["vp9"].copy()
    video[-900 + place] = value
    if index_fault(video, VideoEntry(0, len(video), 0, COUNT, SIDE, SIDE)) is None:
        part, numbers = trimmed(video, np.arange(11, 15, dtype=np.int32))
        assert len(part)
        assert (numbers >= 0).all()
