import json
import random
import shutil
import tarfile
from dataclasses import replace
from hashlib import sha256

import pytest

from xkd.cli import main
from xkd.pipelines.convert.shard import SHARD_SUFFIXES
from xkd.pipelines.inspect import check
from xkd.pipelines.inspect.check import check_shards
from xkd.pipelines.shards.manifest import read_manifest, totals
from xkd.pipelines.shards.sidecar import open_sidecar, pack, serialize, unpack


@pytest.fixture
def copy(tmp_path):
    def copied(folder):
        return shutil.copytree(folder, tmp_path / "copy")

    return copied


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def places(tar):
    """A byte of every kind in a tar: (offset, the words that must name it)."""
    with tarfile.open(tar) as opened:
        for member in opened:
            yield member.offset, f"the header of {member.name}"
            yield member.offset + 500, f"the header of {member.name}"
            yield member.offset_data + member.size // 2, member.name
            yield member.offset_data + member.size - 1, member.name
            if member.name.endswith(".wav"):
                yield member.offset_data + 30, member.name
            if member.size % 512:
                yield member.offset_data + member.size, f"the padding behind {member.name}"
    yield tar.stat().st_size - 1, f"at byte {member.offset_data + -(-member.size // 512) * 512}"


def test_a_healthy_set_has_no_problem(any_shards):
    assert check_shards(any_shards, workers=1, decode=True) == []


def test_a_flipped_byte_in_a_tar_is_found_and_its_member_named(any_shards, copy):
    folder = copy(any_shards)
    tar = sorted(folder.glob("*.tar"))[-1]
    whole = tar.read_bytes()
    for offset, name in places(tar):
        flip(tar, offset)
        first, *others = check_shards(folder, workers=1)
        assert first == f"{tar}: its sha256 is not that of the manifest"
        assert len(others) == 1, (offset, others)
        assert others[0].startswith(f"{tar}: ")
        assert name in others[0]
        tar.write_bytes(whole)


def test_any_flipped_byte_of_any_file_of_a_shard_is_found(any_shards, copy):
    folder, random_ = copy(any_shards), random.Random(0)
    files = [path for suffix in SHARD_SUFFIXES for path in folder.glob(f"*{suffix}")]
    for path in files:
        whole = path.read_bytes()
        for _ in range(10):
            flip(path, offset := random_.randrange(len(whole)))
            problems = check_shards(folder, workers=1)
            assert problems, (path, offset)
            assert all(problem.startswith(f"{path}: ") for problem in problems), (path, offset, problems)
        path.write_bytes(whole)


def test_a_flipped_byte_of_the_manifest_is_found_where_anything_follows_from_it(tiny_shards, copy):
    folder = copy(tiny_shards)
    path = folder / "manifest.json"
    text = path.read_text()
    for name in (
        "identity",
        "num_samples",
        "tar_sha256",
        "index_sha256",
        "sidecar_sha256",
        "tar_bytes",
        "converted",
        "video_seconds",
    ):
        begin = text.index(f'"{name}": ') + len(name) + 4
        begin += text[begin] == '"'
        path.write_text(text[:begin] + ("1" if text[begin] != "1" else "2") + text[begin + 1 :])
        problems = check_shards(folder, workers=1)
        assert any("manifest" in problem for problem in problems), name
    path.write_text(text.replace("high", "hifh", 1))
    assert any("train-000000.stats.json: is stale or damaged" in problem for problem in check_shards(folder, workers=1))
    path.write_text(text[:-2])
    assert "is not a manifest of format 1" in check_shards(folder)[0]


@pytest.mark.parametrize("kept", [0, 100, 512, 5000, -30000, -10240, -9729, -9728, -1])
def test_a_truncated_tar_is_named_with_the_samples_that_it_lost(tiny_shards, copy, kept):
    folder = copy(tiny_shards)
    tar = folder / "train-000000.tar"
    size = tar.stat().st_size
    with tar.open("r+b") as file:
        file.truncate(kept if kept >= 0 else size + kept)
    problems = check_shards(folder, workers=1)
    assert problems[0] == f"{tar}: has {tar.stat().st_size} bytes, but {size} in the manifest"
    assert all(problem.startswith(f"{tar}: ") for problem in problems)
    if tar.stat().st_size < size - 30000 + 1:
        assert "of its 8 samples are cut off, from " in problems[-1]


@pytest.mark.parametrize("suffix", SHARD_SUFFIXES)
def test_a_missing_file_of_a_shard_is_named(any_shards, copy, suffix):
    folder = copy(any_shards)
    path = sorted(folder.glob(f"*{suffix}"))[0]
    path.unlink()
    assert check_shards(folder, workers=1) == [f"{path}: is missing"]


def test_a_missing_shard_is_named_and_the_others_are_checked(tiny_shards, copy):
    folder = copy(tiny_shards)
    for path in folder.glob("train-000000.*"):
        path.unlink()
    flip(folder / "train-000001.tar", 0)
    problems = check_shards(folder, workers=1)
    assert [problem for problem in problems if "is missing" in problem] == [
        f"{folder / f'train-000000{suffix}'}: is missing" for suffix in SHARD_SUFFIXES
    ]
    assert any("train-000001.tar: the header of" in problem for problem in problems)


@pytest.mark.parametrize("suffix", [".idx", ".safetensors", ".stats.json"])
def test_a_file_of_another_shard_is_stale(any_shards, copy, tiny_shards, suffix):
    folder = copy(any_shards)
    other = tiny_shards / f"train-000001{suffix}"
    path = sorted(folder.glob(f"*{suffix}"))[0]
    shutil.copy(other, path)
    (problem,) = check_shards(folder, workers=1)
    assert problem.startswith(f"{path}: is stale or damaged")


def test_a_stale_index_is_shown_with_its_first_wrong_line(tiny_shards, copy):
    folder = copy(tiny_shards)
    index = folder / "train-000001.idx"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join([*lines[:2], *lines[3:]]))
    (problem,) = check_shards(folder, workers=1)
    assert f"line 3 is {lines[3].strip()!r}, which for this tar would be {lines[2].strip()!r}" in problem


def test_all_problems_are_named_at_once_and_any_number_of_workers_finds_the_same(tiny_shards, copy):
    folder = copy(tiny_shards)
    flip(folder / "train-000000.idx", 40)
    flip(folder / "train-000000.safetensors", 1000)
    flip(folder / "train-000001.tar", 40000)
    (folder / "train-000002.tar").write_bytes(b"")
    (folder / "train-000001.tar.partial").write_bytes(b"")
    (folder / "source.json").unlink()
    (folder / "failures.jsonl").write_text('{"name": "x"}\n')
    problems = check_shards(folder, workers=1)
    named = {problem.partition(": ")[0].rpartition("/")[2] for problem in problems}
    assert named == {
        *("train-000000.idx", "train-000000.safetensors", "train-000001.tar"),
        *("train-000002.tar", "train-000001.tar.partial", "source.json", "failures.jsonl"),
    }
    assert check_shards(folder, workers=2) == problems


def with_entries(folder, name, change):
    """Rewrite a sidecar, and what speaks of it, as if the converter had written `change(entries)`."""
    path = folder / f"{name}.safetensors"
    columns = open_sidecar(path)
    data = serialize(pack(change([unpack(columns, row) for row in range(len(columns["key"]))])))
    path.unlink()
    path.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    (record,) = (record for record in manifest["shards"] if record["name"] == name)
    record.update(sidecar_bytes=len(data), sidecar_sha256=sha256(data).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def test_decoding_finds_what_checksums_cannot(any_shards, copy):
    """A sample whose members are intact and decode to something else than the converter noted."""
    folder = copy(any_shards)
    name = read_manifest(folder).shards[0].name

    def change(entries):
        entry = entries[0]
        stream = "video" if entry.video.size else "audio"
        field = "frames" if stream == "video" else "samples"
        one = getattr(entry, stream)
        return [replace(entry, **{stream: replace(one, **{field: getattr(one, field) * 2})}), *entries[1:]]

    with_entries(folder, name, change)
    shallow, deep = check_shards(folder, workers=1), check_shards(folder, workers=1, decode=True)
    assert not any("decodes to" in problem for problem in shallow)
    assert any(f"{name}.tar: " in problem and "decodes to" in problem and "instead of" in problem for problem in deep)


def test_a_sidecar_of_other_members_is_found_even_if_the_manifest_agrees_with_it(tiny_shards, copy):
    folder = copy(tiny_shards)
    with_entries(folder, "train-000001", lambda entries: entries[:-1])
    problems = check_shards(folder, workers=1)
    assert any("train-000001.safetensors: its num_samples is 3, but 4 in the manifest" in problem for problem in problems)
    assert sum("is in the tar and not in the sidecar" in problem for problem in problems) == 2


def test_a_key_that_two_samples_have_is_named(tiny_shards, copy):
    folder = copy(tiny_shards)
    manifest = read_manifest(folder)
    for suffix in SHARD_SUFFIXES:
        shutil.copy(folder / f"train-000000{suffix}", folder / f"train-000002{suffix}")
    shards = [*manifest.shards, manifest.shards[0].model_copy(update={"name": "train-000002"})]
    sums = totals(shards, manifest.settings.profile, len(manifest.classes))
    counts = manifest.completeness.model_copy(update={"converted": sums["num_samples"]})
    twice = manifest.model_copy(update={**sums, "completeness": counts})
    (folder / "manifest.json").write_text(twice.model_dump_json(indent=1))
    problems = check_shards(folder, workers=1)
    assert len(problems) == 8
    assert all("several samples have the key" in problem for problem in problems)


def test_the_command_prints_what_is_wrong_and_exits_with_1(tiny_shards, copy, capsys):
    folder = copy(tiny_shards)
    assert main(["shards", "check", str(folder), "--decode", "--workers", "1"]) == 0
    assert "good (12 samples in 2 shards" in capsys.readouterr().out
    (folder / "train-000001.tar").unlink()
    assert main(["shards", "check", str(folder), "--workers", "1"]) == 1
    problem, last = capsys.readouterr().out.splitlines()
    assert problem == f"{folder / 'train-000001.tar'}: is missing"
    assert last.startswith(f"{folder}: 1 problem;")
    assert main(["shards", "check", str(folder / "absent")]) == 2


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_would_check_nothing_is_an_error(tiny_shards, workers):
    with pytest.raises(ValueError, match=f"workers: {workers} is not at least 1"):
        check_shards(tiny_shards, workers=workers)


def test_a_shard_without_a_result_is_never_taken_for_a_good_one(tiny_shards, monkeypatch):
    monkeypatch.setattr(check, "map_in_order", lambda *_, **__: iter([[]]))
    with pytest.raises(ValueError, match="zip"):
        check_shards(tiny_shards, workers=2)


def test_an_empty_part_has_nothing_to_find(empty_part):
    assert check_shards(empty_part, workers=2) == []


def test_an_unfinished_folder_is_a_problem_and_not_a_traceback(tiny_shards, copy):
    folder = copy(tiny_shards)
    (folder / "manifest.json").unlink()
    (problem,) = check_shards(folder)
    assert "is no finished shard folder" in problem
