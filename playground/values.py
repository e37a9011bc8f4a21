"""The base of the project's values."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Never changes once made, and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
