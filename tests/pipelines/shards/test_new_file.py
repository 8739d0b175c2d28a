import os

import pytest

from xkd.pipelines.shards.new_file import NewFile


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_file_appears_whole_when_it_is_published(tmp_path, anonymous):
    with NewFile(tmp_path / "a", anonymous) as new_file:
        new_file.reserve(5)
        new_file.file.write(b"whole")
        new_file.store()
        assert os.listdir(tmp_path) == ([] if anonymous else ["a.part"])
        new_file.publish()
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("anonymous", [True, False])
def test_nothing_is_left_of_a_file_that_is_not_published(tmp_path, anonymous):
    with NewFile(tmp_path / "a", anonymous) as new_file:
        new_file.file.write(b"half")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("anonymous", [True, False])
def test_a_published_file_takes_the_place_of_another(tmp_path, anonymous):
    (tmp_path / "a").write_bytes(b"old")
    with NewFile(tmp_path / "a", anonymous) as new_file:
        new_file.file.write(b"new")
        new_file.store()
        new_file.publish()
    assert (tmp_path / "a").read_bytes() == b"new"


def test_the_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()
    with NewFile(tmp_path / "a") as new_file:
        new_file.publish()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode
