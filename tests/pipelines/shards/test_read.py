import io
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xkd.pipelines.media.encode import decoded_shape
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.read import (
    MAX_GAP,
    DamagedSample,
    UnreadableFile,
    audio_extent,
    check_audio,
    check_video,
    crc_per_second,
    fetch_both,
    open_and_pread,
    read_audio,
    read_video,
    video_extent,
)
from xkd.pipelines.shards.sidecar import NO_AUDIO, NO_VIDEO


@pytest.fixture
def damaged_copy(tiny_shards, tmp_path):
    """A function that copies the shards with one byte of the first tar flipped, and opens the copy."""

    def flip(offset):
        folder = tmp_path / "copy"
        shutil.copytree(tiny_shards, folder)
        data = bytearray((folder / "train-000000.tar").read_bytes())
        data[offset] ^= 1
        (folder / "train-000000.tar").write_bytes(data)
        return ShardSet.open(folder)

    return flip


def test_a_video_decodes_to_what_the_index_says(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    for index in range(len(shards)):
        sample = shards.sample(index)
        assert decoded_shape(read_video(sample).tobytes()) == (sample.video.frames, sample.video.height, sample.video.width)


def test_sound_and_pictures_are_those_of_the_source(tiny_shards):
    """The media folder holds low tones over red and high tones over blue."""
    shards = ShardSet.open(tiny_shards)
    for index, label in enumerate(shards.labels()):
        sound = read_audio(shards.sample(index), 4000, 16000).astype(float)
        pitch = np.argmax(np.abs(np.fft.rfft(sound))[1:]) + 1
        picture = first_picture(shards.sample(index))
        red, blue = np.median(picture[..., 0]), np.median(picture[..., 2])
        is_low = shards.classes[label] == "low"
        assert (pitch < 1000, red > blue) == (is_low, is_low)


def first_picture(sample):
    with av.open(io.BytesIO(read_video(sample).tobytes())) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 60000), count=st.integers(0, 60000))
def test_any_part_of_the_sound_is_that_part_of_the_whole(tiny_shards, start, count):
    sample = ShardSet.open(tiny_shards).sample(0)
    whole = read_audio(sample, 0, 130000)
    assert np.array_equal(read_audio(sample, start, count), whole[start : start + count])
    assert not whole[sample.audio.samples :].any()


def test_a_flipped_byte_in_the_video_is_found_and_named(tiny_shards, damaged_copy):
    video = ShardSet.open(tiny_shards).sample(3).video
    sample = damaged_copy(video.offset + video.size - 1).sample(3)
    with pytest.raises(DamagedSample, match=rf"train-000000.tar: the video of sample {sample.key} .* is damaged"):
        read_video(sample)


def test_a_flipped_byte_in_the_sound_spoils_only_its_second(tiny_shards, damaged_copy):
    audio = ShardSet.open(tiny_shards).sample(3).audio
    sample = damaged_copy(audio.offset + 2 * 16000).sample(3)
    read_audio(sample, 0, 16000)
    read_audio(sample, 32000, 100)
    for start, count in [(15999, 2), (16000, 1), (31999, 1), (0, 40000)]:
        with pytest.raises(DamagedSample, match=rf"the audio of sample {sample.key}"):
            read_audio(sample, start, count)


def test_a_truncated_tar_is_damage_too(tiny_shards, tmp_path):
    shutil.copytree(tiny_shards, tmp_path / "copy")
    sample = ShardSet.open(tmp_path / "copy").sample(7)
    with sample.shard.open("r+b") as tar:
        tar.truncate(sample.video.offset + 10)
    with pytest.raises(DamagedSample):
        read_video(sample)
    with pytest.raises(DamagedSample):
        read_audio(sample, 0, 100)


class Noting:
    """Reads from files and notes how; what overlaps `spoilt` cannot be read."""

    def __init__(self, spoilt=range(0)):
        self.reads, self.spoilt = [], spoilt

    def __call__(self, path, offset, size):
        self.reads.append((offset, size))
        if max(offset, self.spoilt.start) < min(offset + size, self.spoilt.stop):
            raise UnreadableFile("Input/output error")
        return open_and_pread(path, offset, size)


def both(sample, start, count, pread):
    return fetch_both(sample, video_extent(sample), audio_extent(sample, start, count), pread)


@given(start=st.integers(0, 40000), count=st.integers(0, 40000))
def test_video_and_sound_that_lie_close_together_are_read_at_once(tiny_shards, start, count):
    sample, pread = ShardSet.open(tiny_shards).sample(5), Noting()
    video, audio = both(sample, start, count, pread)
    assert np.array_equal(check_video(sample, video), read_video(sample))
    assert np.array_equal(check_audio(sample, start, count, audio), read_audio(sample, start, count))
    gap = audio_extent(sample, start, count)[0] - sum(video_extent(sample))
    assert len(pread.reads) == (1 if gap <= MAX_GAP else 2)
    assert sum(size for _, size in pread.reads) <= sample.video.size + len(audio) + MAX_GAP


def test_what_is_far_apart_or_the_other_way_round_is_read_apart(tiny_shards):
    sample = ShardSet.open(tiny_shards).sample(5)
    far = (sum(video_extent(sample)) + MAX_GAP + 1, 100)
    for extents in ((video_extent(sample), far), (audio_extent(sample, 0, 100), video_extent(sample))):
        pread = Noting()
        found = fetch_both(sample, *extents, pread)
        assert pread.reads == list(extents)
        assert found == tuple(open_and_pread(sample.shard, *extent) for extent in extents)


def test_an_unreadable_sound_is_no_damage_of_the_video(tiny_shards):
    sample = ShardSet.open(tiny_shards).sample(5)
    video, audio = both(sample, 0, 100, Noting(spoilt=range(sample.audio.offset, sample.audio.offset + 1)))
    check_video(sample, video)
    with pytest.raises(
        DamagedSample, match=r"the audio of sample .* cannot be read: Input/output error; copy the shard again"
    ) as found:
        check_audio(sample, 0, 100, audio)
    assert found.value.reason == f"its audio (at byte {sample.audio.offset}) cannot be read: Input/output error"


@given(seconds=st.integers(0, 3), rest=st.integers(0, 15))
def test_there_is_a_crc_for_every_begun_second(seconds, rest):
    assert len(crc_per_second(bytes(2 * (16 * seconds + rest)), sample_rate=16)) == seconds + (rest > 0)


def test_a_stream_that_a_sample_lacks_is_an_error_but_no_damage(tiny_shards):
    sample = replace(ShardSet.open(tiny_shards).sample(3), video=NO_VIDEO, audio=NO_AUDIO)
    for read, name in ((read_video, "video"), (lambda sample: read_audio(sample, 0, 100), "sound")):
        with pytest.raises(ValueError, match=rf"train-000000.tar: sample {sample.key} has no {name}; choose samples") as raised:
            read(sample)
        assert not isinstance(raised.value, DamagedSample)


def test_part_of_a_flac_is_refused(tiny_shards):
    sample = ShardSet.open(tiny_shards).sample(3)
    flac = replace(sample, audio=replace(sample.audio, size=1234))
    with pytest.raises(ValueError, match=r"bytes, not .* samples of pcm16"):
        read_audio(flac, 0, 100)
