"""The sizes that frames give themselves are those that they were encoded with."""

import io

import av
import pytest

from tests.media import moving_bar, write_clip
from tests.pipelines.bad_media import MJPEG, TEN_BIT_VP9
from xkd.pipelines.shards.frame_shape import frame_shape

FORMS = {
    "vp9": {"video_codec": "libvpx-vp9", "gop": 4},
    "vp9 4:2:2": {"video_codec": "libvpx-vp9", "gop": 4, "pixel_format": "yuv422p"},
    "vp9 4:4:4": {"video_codec": "libvpx-vp9", "gop": 4, "pixel_format": "yuv444p"},
    "vp9 rgb": {"video_codec": "libvpx-vp9", "gop": 4, "pixel_format": "gbrp"},
    "mjpeg": MJPEG,
    "mjpeg 4:4:4": MJPEG | {"pixel_format": "yuvj444p"},
}


def frame_shapes(data: bytes) -> list[tuple[bool, tuple[int, int] | None]]:
    """Of each packet, whether it is a key frame, and the shape found in it."""
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [(packet.is_keyframe, frame_shape(memoryview(bytes(packet)))) for packet in packets]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(128, 224), (129, 131), (2, 2), (1080, 1920)])
def test_every_key_frame_tells_its_shape(tmp_path, form, shape):
    height, width = shape
    clip = {"picture": moving_bar((40, 160, 60)), "sound": None, "seconds": 1.0, "height": height, "width": width}
    found = frame_shapes(write_clip(tmp_path / "clip.mp4", **clip, **FORMS[form]).read_bytes())
    assert {told for is_key, told in found if is_key} == {shape}
    assert {told for is_key, told in found if not is_key} <= {None}


def test_frames_of_10_bits_tell_it_too():
    assert {told for is_key, told in frame_shapes(TEN_BIT_VP9.read_bytes()) if is_key} == {(128, 224)}


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4"])
def test_frames_of_other_codecs_tell_nothing(tmp_path, codec):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    data = write_clip(tmp_path / "clip.mp4", sound=None, video_codec=codec, video_options=options).read_bytes()
    assert {told for _, told in frame_shapes(data)} == {None}


@pytest.mark.parametrize("form", ["vp9", "mjpeg"])
def test_a_frame_that_ends_early_is_no_error(tmp_path, form):
    data = write_clip(tmp_path / "clip.mp4", sound=None, seconds=0.25, **FORMS[form]).read_bytes()
    with av.open(io.BytesIO(data)) as container:
        frame = bytes(next(container.demux(video=0)))
    assert {frame_shape(memoryview(frame[:size])) for size in range(4)} == {None}
    assert frame_shape(memoryview(frame)) == (128, 128)
    for size in range(min(len(frame), 800)):
        frame_shape(memoryview(frame[:size]))
