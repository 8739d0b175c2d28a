"""Turns pydantic's errors into sentences that name the field, the value, what is allowed and the fix."""

import difflib
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

# What to say of a value, by pydantic's error type. {value} is the value as given; the other names come from the error's context.
_SENTENCES = {
    "int_type": "{value} is not a whole number",
    "int_parsing": "{value} is not a whole number",
    "int_from_float": "{value} is not a whole number",
    "float_type": "{value} is not a number",
    "float_parsing": "{value} is not a number",
    "finite_number": "{value} is not a finite number",
    "bool_type": "{value} is not one of true, false",
    "bool_parsing": "{value} is not one of true, false",
    "string_type": "{value} is not text; put it in quotes if it is meant as text",
    "path_type": "{value} is not a path",
    "list_type": "{value} is not a list; write [a, b]",
    "tuple_type": "{value} is not a list; write [a, b]",
    "dict_type": "{value} is not a section of `key: value` lines",
    "greater_than": "{value} is not above {gt}",
    "greater_than_equal": "{value} is below {ge}, the least allowed",
    "less_than": "{value} is not below {lt}",
    "less_than_equal": "{value} is above {le}, the most allowed",
    "multiple_of": "{value} is not a multiple of {multiple_of}",
    "too_short": "{value} has {actual_length} entries, fewer than {min_length}",
    "too_long": "{value} has {actual_length} entries, more than {max_length}",
}


def sentences(error: ValidationError, schema: type[BaseModel]) -> Iterator[tuple[tuple, str]]:
    """(path as keys, sentence) of every error; the alternatives of a union become one sentence.

    A validator's own message that starts with the path of a field of its section ("video.fps: 7 is ...") becomes an error of
    that field.
    """
    merged: dict[tuple, list[str]] = {}
    for detail in error.errors(include_url=False):
        keys, sentence = _describe(detail, schema)
        merged.setdefault(keys, []).append(sentence)
    for keys, alternatives in merged.items():
        yield keys, " and ".join(dict.fromkeys(alternatives))


def quote(value) -> str:
    """The value as a user would recognise it, shortened when it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def unknown_choice(value, choices: Sequence[str]) -> str:
    return f"{quote(value)} is not one of {', '.join(choices)}{_did_you_mean(value, choices)}"


def _describe(detail: dict, schema: type[BaseModel]) -> tuple[tuple, str]:
    kind, location, context = detail["type"], detail["loc"], detail.get("ctx", {})
    value = quote(detail["input"])
    if kind == "extra_forbidden":
        keys, parent = _resolve(schema, location[:-1])
        keys += (location[-1],)
        return keys, _unknown_key(keys, parent, schema)
    if kind == "missing":
        keys, parent = _resolve(schema, location[:-1])
        return (*keys, location[-1]), _missing(location[-1], parent)
    keys, arms = _resolve(schema, location)
    if kind in ("value_error", "assertion_error"):
        return _split_path(keys, arms, str(context["error"]))
    if kind in ("literal_error", "enum"):
        return keys, unknown_choice(detail["input"], _listed(context["expected"]))
    if kind == "union_tag_invalid":
        return (*keys, context["discriminator"].strip("'")), unknown_choice(context["tag"], _listed(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return (*keys, context["discriminator"].strip("'")), "is missing; set it"
    if kind in ("model_type", "model_attributes_type"):
        return keys, f"{value} is not a section; its keys are {', '.join(_fields(arms))}"
    if kind in _SENTENCES:
        return keys, _SENTENCES[kind].format(value=value, **context)
    return keys, f"{value}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _unknown_key(keys: tuple, parent: list, schema: type[BaseModel]) -> str:
    known = list(_fields(parent))
    if hint := _did_you_mean(keys[-1], known):
        return f"unknown key{hint}"
    elsewhere = [path for path in _dotted_paths(schema) if path.endswith(f".{keys[-1]}") and path != ".".join(keys)]
    return f"unknown key; did you mean {' or '.join(elsewhere)}?" if elsewhere else f"unknown key; known here: {', '.join(known)}"


def _missing(key, parent: list) -> str:
    described = [model.model_fields[key].description for model in _models(parent) if key in model.model_fields]
    return "is missing; set it" + "".join(f" ({text})" for text in described if text)


def _did_you_mean(value, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(value), choices, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _listed(expected: str) -> list[str]:
    """Pydantic's "'a', 'b' or 'c'" as a list."""
    return [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]


def _split_path(keys: tuple, arms: list, message: str) -> tuple[tuple, str]:
    """Move a field's path from the head of a message to the end of `keys`."""
    head, colon, rest = message.partition(": ")
    named = tuple(head.split("."))
    for key in named:
        if not colon or key not in _fields(arms):
            return keys, message
        arms = _fields(arms)[key]
    return keys + named, rest


# Walking the schema. At any point several types ("arms") may be allowed: the members of a union.


def _resolve(schema: type[BaseModel], location: Sequence) -> tuple[tuple, list]:
    """The keys of a pydantic location, which also holds names of union members, and the types that can stand there."""
    keys, arms = [], [schema]
    for part in location:
        fields, items = _fields(arms), _items(arms)
        if part in fields or isinstance(part, int) or (items and not _members(arms, part)):
            keys.append(part)
            arms = fields.get(part, items)
        else:
            arms = _members(arms, part) or arms
    return tuple(keys), arms


def _arms(annotation) -> list:
    if get_origin(annotation) is Annotated:
        return _arms(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [arm for member in get_args(annotation) for arm in _arms(member)]
    return [annotation]


def _models(arms: list) -> list[type[BaseModel]]:
    return [arm for arm in arms if isinstance(arm, type) and issubclass(arm, BaseModel)]


def _fields(arms: list) -> dict[str, list]:
    """Field name -> its arms, over all the models among `arms`."""
    fields: dict[str, list] = {}
    for model in _models(arms):
        for name, field in model.model_fields.items():
            fields.setdefault(name, []).extend(_arms(field.annotation))
    return fields


def _items(arms: list) -> list:
    """The arms of what the lists, tuples and dicts among `arms` hold."""
    return [arm for container in arms if get_origin(container) is not Literal for arg in get_args(container) for arm in _arms(arg)]


def _members(arms: list, tag) -> list:
    """The members of a union that pydantic calls `tag`: the class's name, or the value of the field that tells them apart."""
    return [
        model
        for model in _models(arms)
        if tag == model.__name__ or any(tag in get_args(field.annotation) for field in model.model_fields.values())
    ]


def _dotted_paths(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, arms in _fields([schema]).items():
        yield prefix + name
        for model in _models(arms):
            yield from _dotted_paths(model, f"{prefix}{name}.")
