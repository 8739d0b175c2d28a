"""The documents: what they link to is there, and nothing was left to be filled in."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|(?:src|href)=\"([^\"]+)\"")
# Words that are written like a placeholder and are none: environment variables, and parts of a clip's name.
KNOWN = "XKD|SLURM|OMP|CUDA|NCCL|GLOO|NVIDIA|DEEPSPEED|ID"
PLACEHOLDER = re.compile(rf"\b(?!(?:{KNOWN})_)[A-Z][A-Z0-9]*_[A-Z0-9_]+\b|\b(?:TODO|FIXME|TBD|XXX)\b|\{{\{{|\?\?\?")


def lost_links(document):
    targets = [(first or second).partition("#")[0] for first, second in LINK.findall(document.read_text())]
    return [target for target in targets if target and "://" not in target and not (document.parent / target).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_local_link_and_image_leads_to_a_file(document):
    assert lost_links(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_placeholder_is_left(document):
    assert PLACEHOLDER.findall(document.read_text()) == []


def test_lost_links_and_placeholders_are_seen(tmp_path):
    (tmp_path / "there.md").write_text("DEMO_OUTPUT")
    text = '[a](there.md#part) ![b](lost.png "title") [c](https://example.org) <img src="lost.svg"> DEMO_OUTPUT XKD_COMMIT'
    (tmp_path / "a.md").write_text(text)
    assert lost_links(tmp_path / "a.md") == ["lost.png", "lost.svg"]
    assert PLACEHOLDER.findall(text) == ["DEMO_OUTPUT"]
