import json
import tarfile
from dataclasses import replace
from zlib import crc32

import numpy as np
import webdataset
from nvidia.dali import fn, pipeline_def

from xkd.pipelines.convert.profiles import PROFILES, make_profile
from xkd.pipelines.convert.sample import Converted
from xkd.pipelines.convert.shard import ShardWriter, sha256_of
from xkd.pipelines.media.encode import encode_wav
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.read import read_audio, read_video
from xkd.pipelines.shards.sidecar import NO_AUDIO, NO_VIDEO, open_sidecar, unpack

CLASSES = tuple("abcdefgh")


def sample(index):
    """A sample of arbitrary bytes, of a size around one tar block."""
    sound = np.arange(index * 100 + 1, dtype=np.int16)
    video = bytes([index]) * (500 + index * 4)
    return Converted(f"key-{index}", (CLASSES[index],), video, encode_wav(sound, 16000), b"{}", 3, 128, 128, len(sound), 16000)


def writer_in(folder, profile=PROFILES["pretrain"]):
    return ShardWriter(folder, "train-000000", profile, CLASSES)


def test_offsets_point_at_the_bytes_that_were_written(tmp_path):
    with writer_in(tmp_path) as writer:
        for index in range(8):
            expected = writer.size_with(sample(index))
            writer.add(sample(index))
        record = writer.finish(begin=0)
    data = (tmp_path / "train-000000.tar").read_bytes()
    columns = open_sidecar(tmp_path / "train-000000.safetensors")
    for index in range(8):
        entry, written = unpack(columns, index), sample(index)
        assert data[entry.video.offset :][: entry.video.size] == written.video
        assert data[entry.audio.offset :][: 2 * entry.audio.samples] == written.audio[44:]
        assert (entry.key, entry.labels) == (written.key, (index,))
    assert (record.num_samples, record.video_frames, record.tar_bytes) == (8, 24, len(data))
    assert len(data) == expected
    assert record.tar_sha256 == sha256_of(tmp_path / "train-000000.tar")


def test_members_carry_no_time_and_no_owner(tiny_shards):
    with tarfile.open(tiny_shards / "train-000000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (tiny_shards / "train-000000.tar").read_bytes()[member.offset + 257 :][:8] == b"ustar\x0000"


def test_a_shard_without_finish_leaves_nothing(tmp_path):
    with writer_in(tmp_path) as writer:
        writer.add(sample(0))
        assert [path.name for path in tmp_path.iterdir()] == ["train-000000.tar.partial"]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_stream_has_no_member_and_zeros_in_the_sidecar(tmp_path):
    seen = replace(sample(1), audio=None, audio_samples=0)
    heard = replace(sample(2), video=None, frames=0, height=0, width=0)
    with writer_in(tmp_path) as writer:
        writer.add(seen)
        writer.add(heard)
        writer.finish(begin=0)
    columns = open_sidecar(tmp_path / "train-000000.safetensors")
    assert unpack(columns, 0).audio == NO_AUDIO
    assert unpack(columns, 1).video == NO_VIDEO
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        assert tar.getnames() == ["key-1.mp4", "key-1.json", "key-2.wav", "key-2.json"]
    index = (tmp_path / "train-000000.idx").read_text().splitlines()
    assert [line.split()[::4] for line in index] == [["v1.2"], ["mp4", "json"], ["wav", "json"]]


def test_a_flac_member_has_one_checksum_over_all_of_it(tmp_path):
    made = replace(sample(3), audio=b"any bytes")
    with writer_in(tmp_path, make_profile("pretrain", audio="flac")) as writer:
        writer.add(made)
        writer.finish(begin=0)
    audio = unpack(open_sidecar(tmp_path / "train-000000.safetensors"), 0).audio
    data = (tmp_path / "train-000000.tar").read_bytes()
    assert data[audio.offset :][: audio.size] == b"any bytes"
    assert (audio.crcs, audio.samples) == ((crc32(b"any bytes"),), 301)
    with tarfile.open(tmp_path / "train-000000.tar") as tar:
        assert tar.getnames() == ["key-3.mp4", "key-3.flac", "key-3.json"]


def test_the_statistics_count_samples_seconds_bytes_and_classes(tmp_path):
    with writer_in(tmp_path) as writer:
        for index in (0, 2, 3):
            writer.add(replace(sample(index), labels=("c", CLASSES[index])) if index == 3 else sample(index))
        record = writer.finish(begin=0)
    found = json.loads((tmp_path / "train-000000.stats.json").read_text())
    assert found["samples"] == 3
    assert found["video_seconds"] == 9 / 8
    assert found["audio_seconds"] == (1 + 201 + 301) / 16000
    assert found["bytes"] == (tmp_path / "train-000000.tar").stat().st_size
    assert found["classes"] == {"a": 1, "c": 2, "d": 1}
    assert record.class_samples == (1, 0, 2, 1, 0, 0, 0, 0)


def test_the_webdataset_library_reads_the_shards(tiny_shards):
    shards = ShardSet.open(tiny_shards)
    urls = sorted(str(path) for path in tiny_shards.glob("*.tar"))
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in read] == [shards.sample(index).key for index in range(len(shards))]
    for index, found in enumerate(read):
        assert found["mp4"] == read_video(shards.sample(index)).tobytes()
        assert found["json"]["labels"] == [shards.classes[shards.labels()[index]]]


def test_dali_reads_the_shards_by_their_index(tiny_shards):
    shards = ShardSet.open(tiny_shards)

    @pipeline_def(batch_size=len(shards), num_threads=1, device_id=None)
    def reader():
        tars, indices = (sorted(str(path) for path in tiny_shards.glob(pattern)) for pattern in ("*.tar", "*.idx"))
        video, audio, info = fn.readers.webdataset(paths=tars, index_paths=indices, ext=["mp4", "wav", "json"])
        return video, fn.decoders.video(video, device="cpu", sequence_length=20), fn.decoders.audio(audio)[0], info

    videos, frames, sounds, infos = reader().run()
    for index in range(len(shards)):
        sample = shards.sample(index)
        assert np.array_equal(videos.at(index), read_video(sample))
        assert frames.at(index).shape == (sample.video.frames, sample.video.height, sample.video.width, 3)
        np.testing.assert_allclose(sounds.at(index).ravel() * 32768, read_audio(sample, 0, sample.audio.samples), atol=2)
        assert infos.at(index).tobytes().startswith(b'{"name": ')
