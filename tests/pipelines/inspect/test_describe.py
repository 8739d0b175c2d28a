import pytest

from xkd.cli import main
from xkd.pipelines.inspect.check import check_shards
from xkd.pipelines.inspect.describe import describe


def rows(folder):
    """The lines of a description by their names."""
    return {line[:14].strip(): line[14:] for line in describe(folder).splitlines() if line[0] != " "}


def test_counts_hours_sizes_and_codecs_are_those_of_the_set(tiny_shards):
    found = rows(tiny_shards)
    assert found["samples"].startswith("12 in 2 shards, ")
    assert found["streams"] == "12 with both"
    assert found["video"].startswith(f"{12 * 2.5 / 3600:.2f} h, 2.50 / 2.50 / 2.50 s (shortest / median / longest); vp9, 8 fps")
    assert found["sound"].endswith("pcm16, 16000 Hz, 1 channel")
    assert found["sizes"] == "224x128 (6), 128x128 (6)"
    assert found["classes"] == "2, of 6 to 6 samples"
    assert "folds" not in found
    assert len(found["identity"]) == 32


def test_every_class_is_listed_with_its_count(wav_shards):
    assert [line.split() for line in describe(wav_shards).splitlines()[-2:]] == [["3", "dog"], ["2", "rain"]]


def test_streams_that_are_not_there_have_no_line(video_shards, wav_shards, flac_shards, mixed_shards):
    assert rows(video_shards)["streams"] == "5 with video only"
    assert "h264" in rows(video_shards)["video"]
    assert "sound" not in rows(video_shards)
    assert rows(wav_shards)["streams"] == "5 with sound only"
    assert "sizes" not in rows(wav_shards)
    assert "flac" in rows(flac_shards)["sound"]
    assert rows(mixed_shards)["streams"] == "1 with both, 1 with video only"


def test_completeness_counts_from_the_published_number_to_the_converted_one(wav_shards):
    assert rows(wav_shards)["completeness"].startswith("2000 published, 6 listed, 6 present")
    assert "5 converted, 1 failed" in rows(wav_shards)["completeness"]


def test_each_fold_says_its_own_numbers(wav_shards, mixed_shards):
    assert rows(mixed_shards)["folds"] == "; ".join(f"{fold}: 1 train, 1 test" for fold in (1, 2, 3))
    assert rows(wav_shards)["folds"].startswith("1: 4 train, 1 test; 2: ")


def test_a_part_without_a_sample_is_described_and_healthy(empty_part):
    assert rows(empty_part)["samples"].startswith("0 in 0 shards")
    assert rows(empty_part)["shard set"].endswith("part 2 of 2")
    assert check_shards(empty_part, decode=True) == []


def test_the_command_prints_the_description(tiny_shards, tmp_path, capsys):
    assert main(["shards", "info", str(tiny_shards)]) == 0
    assert capsys.readouterr().out == describe(tiny_shards)
    with pytest.raises(ValueError, match="no such shard folder"):
        describe(tmp_path / "absent")
