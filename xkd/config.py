"""Typed configuration: yaml with `base:`, then `section.key=value`, then pydantic models that know every field."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from xkd.config_errors import quote, sentences, unknown_choice

COMMAND_LINE = "command line"


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one sentence a line."""


class Settings(BaseModel):
    """Base of every configuration class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Value:
    """A leaf of the merged tree, which remembers where it was set."""

    value: object
    source: str


def load(path: str | Path, overrides: Sequence[str], schemas: Mapping[str, type[BaseModel]]) -> BaseModel:
    """Read a configuration file and validate it with the schema its root field `job` names.

    A path that does not exist is looked up among the packaged configurations: `pretrain/demo.yaml`.
    Raises ConfigError with all errors found.
    """
    path = locate(path)
    return validate(merge(read_with_base(path), parse_overrides(overrides)), path, schemas)


def validate(tree: dict, path: Path, schemas: Mapping[str, type[BaseModel]]) -> BaseModel:
    """The configuration that a merged tree holds; `path` names the values that no file or command line has set.

    Raises ConfigError with all errors found.
    """
    job = find(tree, ("job",))
    if not isinstance(job, Value):
        raise ConfigError(f"{path}: job: is missing; set it to {' or '.join(schemas)}")
    if job.value not in list(schemas):
        raise ConfigError(f"{job.source}: job: {unknown_choice(job.value, list(schemas))}")
    return _validated(tree, schemas[job.value], str(path))


def from_overrides(overrides: Sequence[str], schema: type[BaseModel]) -> BaseModel:
    """What `section.key=value` arguments alone describe. Raises ConfigError with all errors found."""
    return _validated(parse_overrides(overrides), schema, COMMAND_LINE)


def _validated(tree: dict, schema: type[BaseModel], default_source: str) -> BaseModel:
    try:
        return schema.model_validate(plain(tree))
    except ValidationError as error:
        lines = [
            f"{source_of(tree, keys, default=default_source)}: {'.'.join(map(str, keys))}{': ' if keys else ''}{sentence}"
            for keys, sentence in sentences(error, schema)
        ]
    raise ConfigError("\n".join(lines))


def dump(config: BaseModel) -> str:
    """Yaml text of every field, defaults included, that loads to an equal configuration."""
    return yaml.dump(
        config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )


def locate(path: str | Path) -> Path:
    path = Path(path)
    for candidate in (path, _packaged() / path):
        if candidate.is_file():
            return candidate
    raise ConfigError(f"{path}: no such configuration file, neither from {Path.cwd()} nor among the packaged ones")


def _packaged() -> Path:
    return Path(str(files("xkd.configs")))


# Reading files and overrides into trees: nested dicts whose leaves are Values.


def read_with_base(path: Path, children: tuple[Path, ...] = ()) -> dict:
    """The tree of a file merged over that of its `base:`, a path relative to the file that names it, or a packaged one."""
    tree = read(path)
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not (isinstance(base, Value) and isinstance(base.value, str)):
        raise ConfigError(f"{path}: base: {quote(plain(base))} is not the path of one yaml file")
    base_path = _find_base(path, base.value)
    chain = (*children, path)
    if base_path.resolve() in [file.resolve() for file in chain]:
        raise ConfigError(f"{path}: base: {quote(base.value)} closes a circle: {' -> '.join(map(str, (*chain, base_path)))}")
    if not base_path.is_file():
        raise ConfigError(
            f"{path}: base: {quote(base.value)} does not exist (looked for {base_path}, and among the packaged configurations)"
        )
    return merge(read_with_base(base_path, chain), tree)


def _find_base(path: Path, base: str) -> Path:
    """The file that `base:` names: beside the file that names it, else among the packaged ones."""
    beside, packaged = Path(os.path.normpath(path.parent / base)), _packaged() / base
    return packaged if packaged.is_file() and not beside.is_file() else beside


def read(path: Path) -> dict:
    content = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {'is empty' if content is None else 'is not a mapping'}; a configuration is `key: value` lines")
    return to_tree(content, str(path))


def parse_overrides(overrides: Sequence[str]) -> dict:
    """The tree of `section.key=value` arguments; each value is yaml, and a later one wins."""
    tree = {}
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = dotted.split(".")
        if not equals or not all(keys):
            raise ConfigError(f"{COMMAND_LINE}: {quote(override)} is not of the form section.key=value")
        branch = to_tree(parse_yaml(text, f"{COMMAND_LINE}: {dotted}"), COMMAND_LINE)
        for key in reversed(keys):
            branch = {key: branch}
        tree = merge(tree, branch)
    return tree


def parse_yaml(text: str | bytes, source: str):
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise ConfigError(f"{source}:{line} is not valid yaml: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: is not valid yaml: {error}") from None


# Trees.


def to_tree(content, source: str):
    if isinstance(content, dict):
        return {key: to_tree(value, source) for key, value in content.items()}
    return Value(content, source)


def plain(tree):
    return {key: plain(value) for key, value in tree.items()} if isinstance(tree, dict) else tree.value


def merge(under, over):
    """`over` on top of `under`: sections merge key by key, anything else (a list too) is replaced."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return {**under, **{key: merge(under[key], value) if key in under else value for key, value in over.items()}}


def find(tree, keys: Sequence):
    """The section at `keys`, or the value at or above it, or None where nothing was set."""
    for key in keys:
        if not isinstance(tree, dict):
            break
        tree = tree.get(key)
    return tree


def source_of(tree, keys: Sequence, default: str) -> str:
    """Where the value at `keys` was set; for a section, every place that set a part of it."""
    node = find(tree, keys)
    sources = [value.source for value in leaves(node)] if node is not None else []
    return " + ".join(dict.fromkeys(sources)) or default


def leaves(tree):
    if isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    else:
        yield tree


# Yaml 1.2's core schema. PyYAML reads yaml 1.1, where `1e-4` is text, `no` is false, `1:30` is 90 and a date is an object.

_PLAIN_SCALARS = {  # tag: (pattern, characters it can start with)
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


def _resolvers() -> dict:
    """PyYAML's table of plain scalars: first character -> [(tag, pattern)]."""
    table = {}
    for tag, (pattern, first_characters) in _PLAIN_SCALARS.items():
        for character in first_characters:
            table.setdefault(character, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$")))
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, (key, (key_node, _)) in enumerate(zip(keys, node.value, strict=True)):
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(problem=f"the key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(problem=f"{key!r} is set twice", problem_mark=key_node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data):
        return True
