"""Configuration classes with every field optional: what is given lies over another configuration."""

from functools import cache
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, ValidationError, create_model

from xkd.config import Settings
from xkd.config_errors import sentences

Config = TypeVar("Config", bound=BaseModel)


@cache
def overlay_of(model: type[BaseModel]) -> type[Settings]:
    """The class with the fields of `model`, in its sections too, each of which may be None: not given.

    A value is checked by itself; how it goes with others is checked by `lay_over`, when these are known.
    """
    fields = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            section = overlay_of(kind)
            fields[name] = (section, Field(section(), description=field.description))
        else:
            checked = Annotated[(kind, *field.metadata)] if field.metadata else kind
            fields[name] = (checked | None, Field(None, description=field.description))
    return create_model(f"{model.__name__}Overlay", __base__=Settings, __doc__=model.__doc__, **fields)


def lay_over(config: Config, overlay: Settings, where: str) -> Config:
    """`config` with what the overlay gives in place of its own. ValueError, whose paths begin with `where`, if it does not fit."""
    try:
        return type(config).model_validate(_merged(config.model_dump(), overlay.model_dump(exclude_none=True)))
    except ValidationError as error:
        found = sentences(error, type(config))
        raise ValueError("\n".join(f"{'.'.join(map(str, (where, *keys)))}: {sentence}" for keys, sentence in found)) from None


def _merged(under: dict, over: dict) -> dict:
    return under | {
        name: _merged(under[name], value) if isinstance(value, dict) and isinstance(under.get(name), dict) else value
        for name, value in over.items()
    }
