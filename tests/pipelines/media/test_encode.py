import io

import av
import numpy as np
import pytest

from xkd.pipelines.convert.profiles import PROFILES
from xkd.pipelines.media.encode import AUDIO_CODECS, CODECS, WAV_HEADER_BYTES, decoded_shape, encode_video, encode_wav


def frames_of(count, height=128, width=176):
    """Smooth moving pictures [H, W, 3]; each call gives fresh frames."""
    rows, columns = np.mgrid[:height, :width]
    for index in range(count):
        picture = np.stack([rows + 4 * index, columns - 3 * index, rows + columns], axis=-1) % 256
        yield av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24").reformat(format="yuv420p")


def encoded(count, codec="vp9", gop=8):
    return encode_video(frames_of(count), codec=codec, fps=8, gop=gop, quality=CODECS[codec].quality, height=128, width=176)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 33])
def test_every_frame_comes_back_at_its_size_and_time(codec, count):
    video, frames = encoded(count, codec)
    assert frames == count
    assert decoded_shape(video) == (count, 128, 176)
    with av.open(io.BytesIO(video)) as container:
        assert [frame.time for frame in container.decode(video=0)] == [index / 8 for index in range(count)]


@pytest.mark.parametrize("codec", CODECS)
def test_groups_of_pictures_are_short_and_closed(codec):
    video, _ = encoded(33, codec)
    with av.open(io.BytesIO(video)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keys == (list(range(33)) if codec == "mjpeg" else [0, 8, 16, 24, 32])
    assert [packet.dts for packet in packets] == [packet.pts for packet in packets]  # no frame waits for a later one
    assert [packet.pts for packet in packets] == sorted(packet.pts for packet in packets)


@pytest.mark.parametrize("codec", CODECS)
def test_encoding_twice_gives_the_same_bytes(codec):
    assert encoded(20, codec) == encoded(20, codec)


@pytest.mark.parametrize("codec", CODECS)
def test_the_key_frames_of_the_source_do_not_show_in_the_result(codec):
    source = list(frames_of(16))
    for frame in source[::3]:
        frame.pict_type = av.video.frame.PictureType.I
    marked, _ = encode_video(source, codec=codec, fps=8, gop=8, quality=CODECS[codec].quality, height=128, width=176)
    assert marked == encoded(16, codec)[0]


@pytest.mark.parametrize("codec", CODECS)
def test_the_result_looks_like_the_source(codec):
    video, _ = encoded(12, codec)
    with av.open(io.BytesIO(video)) as container:
        found = np.stack([frame.to_ndarray() for frame in container.decode(video=0)]).astype(float)
    error = np.mean((found - np.stack([frame.to_ndarray() for frame in frames_of(12)])) ** 2)
    assert 10 * np.log10(255**2 / error) > 30


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_profile_names_a_known_codec_and_sizes_that_fit(profile):
    assert profile.video.codec in CODECS
    assert profile.video.short_side >= 128
    assert profile.video.short_side % profile.video.multiple == 0


@pytest.mark.parametrize("codec", AUDIO_CODECS)
@pytest.mark.parametrize("count", [1, 3, 15, 4096, 16001])
def test_sound_comes_back_exactly_and_is_the_same_bytes_each_time(codec, count):
    samples = np.random.default_rng(count).integers(-(2**15), 2**15, count).astype(np.int16)
    data = AUDIO_CODECS[codec].encode(samples, 16000)
    found, rate = AUDIO_CODECS[codec].decode(data)
    assert rate == 16000
    assert np.array_equal(found, samples)
    assert data == AUDIO_CODECS[codec].encode(samples, 16000)


@pytest.mark.parametrize("count", [1, 3, 16000])
def test_a_wav_file_holds_the_samples_after_its_header(count):
    samples = np.random.default_rng(count).integers(-(2**15), 2**15, count).astype(np.int16)
    assert encode_wav(samples, 16000)[WAV_HEADER_BYTES:] == samples.astype("<i2").tobytes()
