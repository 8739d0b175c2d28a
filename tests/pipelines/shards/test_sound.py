import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xkd.pipelines.convert.write import write_shards
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.read import DamagedSample, UnreadableFile, open_and_pread
from xkd.pipelines.shards.sidecar import NO_AUDIO
from xkd.pipelines.shards.sound import SOUNDS


@pytest.fixture(scope="module")
def stored(media_folder, tmp_path_factory):
    """The first two clips of the media folder, by the codec of their sound."""
    root = tmp_path_factory.mktemp("sounds")
    for codec in SOUNDS:
        write_shards(media_folder, root / codec, split="train", workers=1, limit=2, audio=codec)
    return {codec: ShardSet.open(root / codec) for codec in SOUNDS}


def heard(shards, index, start, count):
    sound, sample = SOUNDS[shards.manifest.audio.codec], shards.sample(index)
    return sound.check(sample, start, count, open_and_pread(sample.shard, *sound.extent(sample, start, count)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(start=st.integers(0, 60000), count=st.integers(0, 60000), index=st.integers(0, 1))
def test_any_stretch_is_the_same_in_every_form(stored, start, count, index):
    found = [heard(shards, index, start, count) for shards in stored.values()]
    assert all(one.dtype == np.int16 and one.shape == (count,) for one in found)
    assert all(np.array_equal(found[0], one) for one in found)


def test_the_whole_is_heard_and_silence_after_it(stored):
    for shards in stored.values():
        samples = shards.sample(0).audio.samples
        sound = heard(shards, 0, 0, samples + 1000)
        assert np.abs(sound[:samples].astype(int)).max() > 5000
        assert not sound[samples:].any()


@pytest.mark.parametrize("codec", SOUNDS)
def test_a_flipped_byte_is_found_and_named(stored, tmp_path, codec):
    shutil.copytree(stored[codec].folder, tmp_path / "copy")
    damaged = ShardSet.open(tmp_path / "copy")
    sample = damaged.sample(1)
    data = bytearray(sample.shard.read_bytes())
    data[sample.audio.offset + 200] ^= 1
    sample.shard.write_bytes(data)
    with pytest.raises(DamagedSample, match=rf"train-000000.tar: the audio of sample {sample.key} \(at byte \d+\) is damaged"):
        heard(damaged, 1, 0, 16000)
    heard(damaged, 0, 0, 16000)


def test_a_flac_of_another_length_than_noted_is_damaged(stored):
    sample = stored["flac"].sample(0)
    noted = replace(sample, audio=replace(sample.audio, samples=sample.audio.samples + 1))
    data = open_and_pread(sample.shard, sample.audio.offset, sample.audio.size)
    with pytest.raises(DamagedSample, match=r"decodes to \d+ samples instead of \d+"):
        SOUNDS["flac"].check(noted, 0, 100, data)


@pytest.mark.parametrize("codec", SOUNDS)
def test_what_cannot_be_read_says_why(stored, codec):
    with pytest.raises(DamagedSample, match=r"the audio of sample .* cannot be read: Input/output error"):
        SOUNDS[codec].check(stored[codec].sample(0), 0, 100, UnreadableFile("Input/output error"))


@pytest.mark.parametrize("codec", SOUNDS)
def test_no_sound_is_an_error_but_no_damage(stored, codec):
    silent = replace(stored[codec].sample(0), audio=NO_AUDIO)
    with pytest.raises(ValueError, match="has no sound; choose samples that have it") as raised:
        SOUNDS[codec].extent(silent, 0, 100)
    assert not isinstance(raised.value, DamagedSample)
