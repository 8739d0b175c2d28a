"""The page on troubleshooting quotes messages that there are, commands that there are, and fields that there are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from xkd.cli import COMMANDS
from xkd.eval.config import EvalConfig
from xkd.train.config import PretrainConfig

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
CODE = re.compile(r"`((?:\\`|[^`])+)`")
FIELD = re.compile(r"\b((?:data|train|log|probe|loss|optim|model|deepspeed|dataset)(?:\.(?!md\b)[a-z_]+)+)\b")
ELLIPSIS = "…"
CONFIGURED = {"data_wait_share", "libnvcuvid"}  # quoted in the first column, and no messages


def quoted():
    """The code spans of the first column of every table."""
    rows = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| ")]
    return [span.replace("\\`", "`") for row in rows for span in CODE.findall(row) if span not in CONFIGURED]


@cache
def messages():
    """Every text in the code, with an ellipsis for what is filled in."""
    found = []
    for folder in ("xkd", "pipelines", "kernels"):
        for file in (ROOT / folder).rglob("*.py"):
            nodes = list(ast.walk(ast.parse(file.read_text())))
            docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            found += [_template(node) for node in nodes if id(node) not in docstrings]
    return [text for text in found if text]


def _template(node):
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else ELLIPSIS for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def is_said(message):
    """Whether some text of the code has this part; an ellipsis may stand for several things that are filled in."""
    pattern = re.compile(".*?".join(map(re.escape, message.split(ELLIPSIS))), re.DOTALL)
    return any(pattern.search(text) for text in messages())


@pytest.mark.parametrize("message", quoted())
def test_a_message_that_is_quoted_is_one_of_the_code(message):
    assert is_said(message)


def test_a_message_that_nobody_says_is_seen():
    assert len(quoted()) > 30
    assert not is_said("it is not drawn, for it is Tuesday")
    assert not is_said("clips cannot be … cut into … equal parts")


def test_the_commands_that_are_named_are_there():
    names = {command.name for command in COMMANDS}
    spans = [span.removeprefix("xkd ").split() for span in CODE.findall(PAGE) if span.startswith("xkd ")]
    assert [words for words in spans if not {words[0], " ".join(words[:2])} & names and not words[0].startswith("-")] == []
    assert len(spans) > 15


def test_the_fields_that_are_named_are_there():
    unknown = [
        name
        for name in set(FIELD.findall(PAGE))
        if not any(_has(schema, name.split(".")) for schema in (PretrainConfig, EvalConfig))
    ]
    assert unknown == []


def _has(schema, keys):
    field = schema.model_fields.get(keys[0])
    if field is None or len(keys) == 1:
        return field is not None
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and _has(field.annotation, keys[1:])
