import errno
import fcntl
import json
import os
import shutil

import pytest

from xkd.pipelines.convert.journal import Header, ListedFailure, Stretch, append_to_journal, read_journal
from xkd.pipelines.convert.output import StoppedRun, find_complete, open_unfinished, writing_to
from xkd.pipelines.convert.shard import SHARD_SUFFIXES
from xkd.pipelines.shards.manifest import read_manifest


@pytest.fixture
def header(tiny_shards):
    manifest = read_manifest(tiny_shards)
    return Header(manifest.settings, manifest.versions)


@pytest.fixture
def begun(tiny_shards, header, tmp_path):
    """An unfinished folder whose journal knows of two shards and a failure."""
    shards = read_manifest(tiny_shards).shards
    open_unfinished(tmp_path, header)
    for shard in shards:
        for suffix in SHARD_SUFFIXES:
            (tmp_path / f"{shard.name}{suffix}").write_bytes((tiny_shards / f"{shard.name}{suffix}").read_bytes())
    append_to_journal(tmp_path, Stretch(8, shards[0], []))
    append_to_journal(tmp_path, Stretch(12, shards[1], [ListedFailure(9, "a\nb\udcff", "it has no sound", "MediaError")]))
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_complete_folder_is_found_by_equal_settings_only(tiny_shards, tmp_path):
    manifest = read_manifest(tiny_shards)
    assert find_complete(tmp_path, manifest.settings) is None
    assert find_complete(tiny_shards, manifest.settings) == manifest
    other = manifest.settings.model_copy(update={"limit": 3})
    with pytest.raises(ValueError, match=r"a complete shard set of another kind \(limit was None and is now 3\); delete it or"):
        find_complete(tiny_shards, other)


def test_a_complete_folder_that_lost_files_is_an_error_that_names_them(tiny_shards, tmp_path):
    out = shutil.copytree(tiny_shards, tmp_path / "out")
    settings = read_manifest(out).settings
    size = (out / "train-000001.tar").stat().st_size
    os.truncate(out / "train-000001.tar", 512)
    (out / "train-000000.idx").unlink()
    with pytest.raises(
        ValueError, match=r"was complete, but train-000000.idx is missing, train-000001.tar has 512 bytes instead of"
    ):
        find_complete(out, settings)
    for path in out.glob("*-*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"train-000000.tar is missing, .*, and 3 more; put these files back .* or delete"):
        find_complete(out, settings)
    assert size > 512


def test_what_the_journal_names_is_kept_and_other_shards_are_deleted(begun, header):
    before = names(begun)
    for name in ("train-000007.tar", "train-000007.idx", "train-000008.tar.partial", "notes.txt"):
        (begun / name).write_bytes(b"0")
    _, stretches = read_journal(begun)
    assert open_unfinished(begun, header) == stretches
    assert [stretch.end for stretch in stretches] == [8, 12]
    assert stretches[1].failures == [ListedFailure(9, "a\nb\udcff", "it has no sound", "MediaError")]
    assert names(begun) == sorted([*before, "notes.txt"])


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_of_the_journal_is_cut_off(begun, header, cut):
    journal = begun / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    assert [stretch.end for stretch in open_unfinished(begun, header)] == [8]
    append_to_journal(begun, Stretch(12, None, []))
    assert [stretch.end for stretch in read_journal(begun)[1]] == [8, 12]
    assert not (begun / "train-000001.tar").exists()


def test_from_a_lost_shard_on_all_is_done_again(begun, header):
    (begun / "train-000000.idx").unlink()
    assert open_unfinished(begun, header) == []
    assert names(begun) == ["journal.jsonl"]


def test_an_unfinished_folder_of_other_settings_or_versions_is_left_alone(begun, header):
    before = names(begun)
    for other, change in [
        (Header(header.settings.model_copy(update={"shuffle": 3}), header.versions), "shuffle was None and is now 3"),
        (Header(header.settings, {**header.versions, "av": "1"}), "av was '.*' and is now '1'"),
        (Header(header.settings, {**header.versions, "machine": "z80"}), "machine was '.*' and is now 'z80'"),
    ]:
        with pytest.raises(ValueError, match=rf"an unfinished shard set of another kind \({change}\); finish it with"):
            open_unfinished(begun, other)
    assert names(begun) == before


def test_a_folder_of_something_else_is_left_alone(header, tmp_path):
    (tmp_path / "train-000000.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty, and what it holds is not an unfinished shard set; choose another"):
        open_unfinished(tmp_path, header)
    assert (tmp_path / "train-000000.tar").read_bytes() == b"mine"


def test_a_file_that_is_no_journal_is_told(header, tmp_path):
    for content in (b"", b"{}\n", b"text\n", json.dumps({"settings": {}, "versions": {}}).encode() + b"\n"):
        (tmp_path / "journal.jsonl").write_bytes(content)
        with pytest.raises(ValueError, match=r"journal.jsonl: is not a journal of this version of xkd; delete"):
            open_unfinished(tmp_path, header)


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    with writing_to(tmp_path), pytest.raises(ValueError, match="another run is writing here"), writing_to(tmp_path):
        pass
    with writing_to(tmp_path):
        pass


def test_the_lock_is_held_where_only_files_open_for_writing_can_be_locked(tmp_path, monkeypatch, capsys):
    lock = fcntl.flock

    def as_on_nfs(descriptor, operation):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    with writing_to(tmp_path), pytest.raises(ValueError, match="another run is writing here"), writing_to(tmp_path):
        pass
    assert capsys.readouterr().err == ""


def test_a_file_system_without_locks_is_told_and_does_not_stop_a_run(tmp_path, monkeypatch, capsys):
    def without_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with writing_to(tmp_path):
        pass
    assert (
        capsys.readouterr().err == f"{tmp_path}: the file system has no locks (No locks available); let no other run write here\n"
    )


def test_the_lock_leaves_nothing_and_is_no_strange_file(header, tmp_path):
    (tmp_path / ".lock").write_bytes(b"")  # of a run that was killed
    with writing_to(tmp_path):
        assert open_unfinished(tmp_path, header) == []
    assert names(tmp_path) == ["journal.jsonl"]


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(StoppedRun, match=r"file/out: cannot be written \(Not a directory\); what is finished is kept"),
        writing_to(tmp_path / "file" / "out"),
    ):
        pass
