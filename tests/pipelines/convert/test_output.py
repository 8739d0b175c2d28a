import pytest

from xkd.pipelines.convert.output import find_complete, start_over
from xkd.pipelines.manifest import read_manifest


def test_a_complete_folder_is_found_by_equal_settings_only(tiny_shards, tmp_path):
    manifest = read_manifest(tiny_shards)
    assert find_complete(tmp_path, manifest.settings) is None
    assert find_complete(tiny_shards, manifest.settings) == manifest
    other = manifest.settings.model_copy(update={"limit": 3})
    with pytest.raises(ValueError, match=r"a complete shard set of another kind \(limit was None and is now 3\); delete it or"):
        find_complete(tiny_shards, other)


def test_starting_over_deletes_the_shards_of_an_unfinished_run_and_nothing_else(tiny_shards, tmp_path):
    settings = read_manifest(tiny_shards).settings
    start_over(tmp_path / "new", settings)
    for name in ("train-000007.tar", "train-000007.idx", "train-000008.tar.partial", "notes.txt"):
        (tmp_path / "new" / name).write_bytes(b"0")
    start_over(tmp_path / "new", settings)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["notes.txt", "unfinished.json"]


def test_a_folder_of_something_else_is_left_alone(tiny_shards, tmp_path):
    (tmp_path / "train-000000.tar").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty, and what it holds is not an unfinished shard set; choose another"):
        start_over(tmp_path, read_manifest(tiny_shards).settings)
    assert (tmp_path / "train-000000.tar").read_bytes() == b"mine"
