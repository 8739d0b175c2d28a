"""Typed configuration: yaml with `base:`, then `section.key=value`, then pydantic models that know every field."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of every configuration class: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
