"""Lays out a replica of a dataset in each form that a source is read in."""

import tarfile
from io import BytesIO

import pytest


def write_files(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))


def as_folder(root, files):
    write_files(root, files)


def as_one_tar(root, files):
    write_tar(root / "all.tar", {f"./{name}": content for name, content in files.items()})


def as_lists_beside_tars(root, files):
    """The lists are files, the media are in two tars."""
    lists = {name: content for name, content in files.items() if name.endswith((".csv", ".txt"))}
    media = sorted(files.keys() - lists.keys())
    write_files(root, lists)
    for part in range(2):
        write_tar(root / f"part_{part}.tar", {name: files[name] for name in media[part::2]})


FORMS = (as_folder, as_one_tar, as_lists_beside_tars)


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def lay_out(request, tmp_path):
    """Write a replica (contents by path) in one of the forms, and return its folder."""

    def write(files):
        root = tmp_path / "source"
        root.mkdir()
        request.param(root, files)
        return root

    return write


@pytest.fixture
def folder(tmp_path):
    """Write a replica as a folder."""

    def write(files):
        root = tmp_path / "source"
        root.mkdir()
        write_files(root, files)
        return root

    return write
