"""How the next token is drawn: Sampling, and the presets that set every field of it."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import Field, ValidationError

from playground.errors import ConfigError, UnknownNameError
from playground.values import Value
from playground.wording import worded

PRESETS_FILE = Path(__file__).with_name("presets.toml")
DEFAULT_PRESET = "balanced"
MAX_SEED = 2**32 - 1
COLDEST = 1e-5
"""Logits divided by less leave the range of float32; drawn at this, the likeliest token comes anyway."""


class Sampling(Value):
    """Every sampler field, the same in every engine, in this order: penalties, temperature, top_k, top_p, min_p.

    The repetition penalty sees prompt and answer; presence and frequency see the answer alone, as OpenAI's do.
    `temperature` 0 (or below 1e-5) is greedy: the most likely token after the penalties. `seed` None draws a fresh one.
    """

    temperature: float = Field(default=0.5, ge=0.0, le=5.0)
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    repetition_penalty: float = Field(default=1.1, gt=0.0, le=3.0)
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    max_new_tokens: int = Field(default=512, ge=1, le=131_072)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    stop: tuple[str, ...] = ()

    @property
    def greedy(self) -> bool:
        """Return whether the most likely token is taken, without drawing."""
        return self.temperature < COLDEST


@cache
def presets() -> dict[str, Sampling]:
    """Return the shipped presets by name, in the order of the file."""
    rows = tomllib.loads(PRESETS_FILE.read_text(encoding="utf-8"))
    return {name: Sampling(**fields) for name, fields in rows.items()}


def preset(name: str) -> Sampling:
    """Return one preset; an unknown name is an error with near matches."""
    known = presets()
    if name not in known:
        raise UnknownNameError(worded("noun.preset"), name, known)
    return known[name]


def sampling(preset_name: str, **changes: object) -> Sampling:
    """Return a preset with single fields changed (None leaves a field as the preset has it)."""
    return changed(
        preset(preset_name).model_dump() | {key: value for key, value in changes.items() if value is not None}
    )


def changed(fields: dict[str, object]) -> Sampling:
    """Make a Sampling of its fields; every fault in one error."""
    try:
        return Sampling.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg'].lower()}" for e in error.errors()
        )
        raise ConfigError(worded("presets.sampling_settings_not", faults=faults)) from error
