"""The page on extending names files that there are, with the tables that it says are in them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
PATHS = sorted(set(re.findall(r"`([\w.-]+/[\w./-]*)`", PAGE)))
ROWS = re.findall(r"^\| (`.+?`) \| (.+) \|$", PAGE, re.MULTILINE)
NAMED = [
    (path, name.partition(".")[0])
    for files, text in ROWS
    for path in re.findall(r"`([^`]+)`", files)
    for name in re.findall(r"`([A-Z]\w+(?:\.\w+)?)`", text)
    if "NAME" not in path
]


@pytest.mark.parametrize("path", PATHS)
def test_the_files_and_folders_that_are_named_are_there(path):
    known, new, _ = path.partition("NAME")
    place = ROOT / (known if not new or known.endswith("/") else str(Path(known).parent))
    assert place.exists() or (ROOT / "configs" / path).exists()


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_tables_that_are_named_are_in_their_files(path, name):
    assert re.search(rf"\b{name}\b", (ROOT / path).read_text())


def test_the_page_names_some_of_both():
    assert len(PATHS) > 30
    assert len(NAMED) > 10
