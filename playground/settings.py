"""Where things live and what this process may use: typed, from the environment (MADANG_*) and from flags."""

from functools import cached_property
from pathlib import Path
from typing import Literal

import platformdirs
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from playground.errors import ConfigError


def default_data_dir() -> Path:
    """The user's data folder for Madang, by the rules of the operating system."""
    return Path(platformdirs.user_data_dir("madang", appauthor=False))


class Settings(BaseSettings):
    """Every setting of the program; extras are forbidden, values come from MADANG_* or from flags."""

    model_config = SettingsConfigDict(env_prefix="MADANG_", extra="forbid", frozen=True)

    data: Path = Field(default_factory=default_data_dir, description="Folder for models, catalogue and conversations")
    host: str = Field(default="127.0.0.1", description="Address the page listens on")
    port: int = Field(default=7860, ge=1, le=65535, description="Port the page listens on")
    mode: Literal["local", "space"] = Field(
        default="local", description="local: everything; space: chat alone, limited"
    )
    ram_budget_gb: float | None = Field(
        default=None, gt=0, description="RAM for loaded models; default 80 % of this machine"
    )
    vram_budget_gb: float | None = Field(
        default=None, gt=0, description="VRAM for loaded models; default 90 % of the cards"
    )
    threads: int | None = Field(default=None, ge=1, description="Threads a model may use; default the usable cores")
    language: Literal["auto", "ko", "en"] = Field(default="auto", description="Language of the page")

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        """`~` and relative paths resolved once: catalogue rows and worker processes must mean the same folder."""
        return data.expanduser().absolute()

    @cached_property
    def models_dir(self) -> Path:
        """Prepared models, a folder each."""
        return self.data / "models"

    @cached_property
    def logs_dir(self) -> Path:
        """Logs of worker processes and jobs."""
        return self.data / "logs"

    @cached_property
    def catalogue(self) -> Path:
        """The user's own variants, beside the built-in ones."""
        return self.data / "variants.toml"


def load_settings(**changes: object) -> Settings:
    """Settings from the environment, with flags on top (None leaves one alone); all faults in one ConfigError."""
    try:
        return Settings(**{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors())
        raise ConfigError(
            f"The settings are not valid: {faults}.", "Correct the flag or the MADANG_* variable."
        ) from error
