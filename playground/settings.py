"""All that Madang reads from the environment, typed: its settings (MADANG_*, or flags) and variables of other programs.

No other module reads the environment (tests/test_environment.py). docs/settings.md is made from the fields below.
"""

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from playground.errors import ConfigError
from playground.wording import worded

ONLINE = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "*_PROXY", "*_proxy")
"""Variables with keys that a child needs to reach the Hub: its token, and proxies that ask for a login."""
EVERY = ("*",)
"""For a child whose parent has been given no more keys than the child needs."""
_KEY = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?(?![A-Z])"
    r"|(?<![A-Z])(PASS|AUTH|PAT|JWT|BEARER|COOKIE)(?![A-Z])"
)
"""In the name of a variable: it holds a key."""
_LOGIN = re.compile(r"://[^/@\s]*:[^/@\s]+@")
"""In the value of a variable: an address with a password in it."""
_OWN_KEYS = ("MADANG_API_KEYS", "MADANG_API_KEYS_FILE")

ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?")
"""As browsers write it: small letters, no path."""


def default_data_dir() -> Path:
    """Return the user's data folder for Madang, by the rules of the operating system."""
    return Path(platformdirs.user_data_dir("madang", appauthor=False))


class Settings(BaseSettings):
    """Every setting of the program; extras are forbidden, values come from MADANG_* or from flags."""

    # inputs are hidden, as pydantic would quote a wrong key of the API in every traceback
    model_config = SettingsConfigDict(env_prefix="MADANG_", extra="forbid", frozen=True, hide_input_in_errors=True)

    data: Path = Field(default_factory=default_data_dir, description="Folder for models, catalogue and conversations")
    host: str = Field(default="127.0.0.1", description="Address the page listens on")
    port: int = Field(default=7860, ge=1, le=65535, description="Port the page listens on")
    connections: int = Field(
        default=1000, ge=8, description="Connections open at once, half of them from one address: the idle go first"
    )
    grace_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds that answers may go on once Madang is told to end; a second time ends them",
    )
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
    language: Literal["auto", "ko", "en"] = Field(
        default="auto",
        description="Language of page and terminal: ko, en, or auto: the browser's, and LANG's in the terminal",
    )
    eval_piece_tokens: int = Field(
        default=8192, ge=1, description="Tokens that a benchmark scores between two savings of its progress, about"
    )
    vllm: str = Field(default="", description="Command that starts vLLM: 'uvx vllm', say; default the one on PATH")
    llama_server: str = Field(
        default="", description="Command that starts llama.cpp's server; default the one on PATH, or the package's"
    )

    upload_max_mb: float = Field(
        default=500.0, gt=0, description="Largest file that the page takes, in MB; a Space takes none"
    )
    upload_max_files: int = Field(default=100, ge=1, description="Files that the page takes in an hour")
    key_variables: str = Field(
        default="*_API_KEY, *_API_KEYS",
        description="Environment variables that a remote variant's `key_env` may name, with commas between; * for any",
    )
    api_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys of the API, with commas between; without one it serves this machine alone",
    )
    api_keys_file: Path | None = Field(default=None, description="File with more keys of the API, one a line")
    api_max_body_mb: float = Field(default=10.0, gt=0, description="Largest body of a request to the API, in MB")
    api_max_prompt_tokens: int = Field(
        default=131_072, ge=1, description="Longest prompt that the API takes, in tokens"
    )
    api_max_tokens: int = Field(
        default=8192, ge=1, le=131_072, description="Longest answer that the API gives, in tokens"
    )  # no more than Sampling takes: a longer one would pass here and fail there
    api_queue: int = Field(
        default=64, ge=1, description="Requests to the API that wait or run at once; more are told to come again"
    )
    api_rate_per_minute: int | None = Field(
        default=None, ge=1, description="Requests a minute for each key of the API; default no limit"
    )
    api_origins: str = Field(
        default="",
        description="Pages of other sites that may ask the API with a key: https://my.site, say, with commas between",
    )
    api_log_prompts: bool = Field(default=False, description="Whether the API's log holds what was asked")
    space_letters: int = Field(
        default=8000, ge=1, description="Longest question of a Space's visitor, in characters; the system prompt's, too"
    )
    space_rate_per_minute: int = Field(default=20, ge=1, description="Questions a minute of each visitor of a Space")
    space_places: int = Field(
        default=16, ge=1, le=32, description="Questions that a Space answers at once; a quarter is one visitor's most"
    )  # each holds one of the 40 threads that Gradio has

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        """Resolve `~` and relative paths once: catalogue rows and worker processes must mean the same folder."""
        return data.expanduser().absolute()

    @field_validator("api_keys")
    @classmethod
    def _sendable(cls, keys: SecretStr) -> SecretStr:
        """Refuse a key that cannot travel in a header: visible ASCII only."""
        if not all("!" <= letter <= "~" for key in split_keys(keys) for letter in key):
            raise ValueError("a key has letters that no header carries: visible ASCII alone, commas between keys")
        return keys

    @field_validator("api_origins")
    @classmethod
    def _origins(cls, origins: str) -> str:
        """Refuse what no browser would send as the origin of a page; * is every page."""
        wrong = [one for one in split_list(origins) if one != "*" and not ORIGIN.fullmatch(one)]
        if wrong:
            raise ValueError(f"{wrong[0]} is no origin: https://my.site or http://localhost:3000, without a path")
        return origins

    @cached_property
    def models_dir(self) -> Path:
        """Prepared models, one folder per model."""
        return self.data / "models"

    @cached_property
    def logs_dir(self) -> Path:
        """Logs of worker processes and jobs."""
        return self.data / "logs"

    @cached_property
    def catalogue(self) -> Path:
        """The user's own variants, beside the built-in ones."""
        return self.data / "variants.toml"


class Environment(BaseSettings):
    """Variables of other programs that Madang heeds, too."""

    ci: str = Field(default="", description="Set by most CI services: no browser is opened")
    space_id: str = Field(default="", description="Set on a Hugging Face Space: MADANG_MODE is space")
    gradio_root_path: str | None = Field(default=None, description="Path of the page behind a proxy")
    forwarded_allow_ips: str = Field(
        default="127.0.0.1,::1",
        description="Proxies whose word on who asks is taken; on a Hugging Face Space all private addresses",
    )
    ssl_cert_file: str = Field(default="", description="Certificate authorities that remote variants are held against")
    ssl_cert_dir: str = Field(default="", description="The same, as a folder")
    ollama_models: str = Field(default="", description="Folder of Ollama's models, which can be added to the catalogue")
    lc_all: str = Field(
        default="",
        description="Language of the terminal, unless MADANG_LANGUAGE names it; before LANG",
    )
    lc_messages: str = Field(default="", description="The same, after LC_ALL")
    lang: str = Field(default="", description="The same: ko_KR.UTF-8 speaks Korean")
    cuda_visible_devices: str = Field(default="0", description="Cards to use; a fine-tune on one device uses the first")


class ChildEnvironment(BaseSettings):
    """What a process that Madang starts finds in its environment, set by its parent and not by people."""

    rank: int = Field(default=0, description="Number of this trainer among those of a run")
    local_rank: int = Field(default=0, description="Number of this trainer among those on this machine")
    omp_num_threads: int | None = Field(default=None, description="Threads of this process")
    madang_supervisor: str = Field(default="", description="Process id and birth of the process that started the run")
    madang_error_file: str = Field(default="", description="Where a job's command writes the error that ended it")
    llama_api_key: str = Field(default="", description="The key that llama.cpp's server asks for")
    llama_arg_cors_origins: str = Field(default="localhost", description="Pages that may ask llama.cpp's server")


def variable(name: str) -> str:
    """Return a variable by its name; empty where it is not set."""
    return os.environ.get(name, "")


def key_in(name: str) -> str:
    """Return the key in a variable that a catalogue row's `key_env` names; empty where it is not set.

    A row may be written by somebody else than the owner of the environment: other variables are a ConfigError.
    """
    allowed = load_settings().key_variables
    if not any(fnmatchcase(name, pattern.strip()) for pattern in allowed.split(",")):
        raise ConfigError(
            worded("settings.may_not_sent", name=name, allowed=allowed),
        )
    return variable(name)


def unset(defaults: Mapping[str, str]) -> dict[str, str]:
    """Return those of the variables that the environment does not set."""
    return {name: value for name, value in defaults.items() if name not in os.environ}


def child_environment(
    changes: Mapping[str, str], defaults: Mapping[str, str] | None = None, keys: Sequence[str] = ()
) -> dict[str, str]:
    """Return the environment for a child process: this process's own over `defaults`, and `changes` over both.

    Of this process's keys a child finds those alone whose variables `keys` names, or matches with a `*`.
    """
    patterns = [one.strip() for one in load_settings().key_variables.split(",")]
    named = [one for one in patterns if not fnmatchcase("", one)]  # `*` says nothing about what is a key
    own = {
        name: value
        for name, value in os.environ.items()
        if any(fnmatchcase(name, one) for one in keys) or not _is_key(name.upper(), value, named)
    }
    return {**(defaults or {}), **own, **changes}


def _is_key(name: str, value: str, named: Sequence[str]) -> bool:
    """Return whether a variable holds a key, by its name or by a password in an address; `named`: patterns for more."""
    if name.startswith("MADANG_"):
        return name in _OWN_KEYS or _LOGIN.search(value) is not None
    if name.endswith("TOKENS") and value.isdecimal():  # a number of them
        return False
    listed = any(fnmatchcase(name, one.upper()) for one in named)
    return listed or _KEY.search(name) is not None or _LOGIN.search(value) is not None


def set_defaults(**defaults: str) -> None:
    """Set variables that libraries in this process read when they are imported, where they are not set yet."""
    os.environ.update(unset(defaults))


def split_keys(keys: SecretStr) -> list[str]:
    """Return the keys of a list with commas between; handle with care."""
    return split_list(keys.get_secret_value())


def split_list(items: str) -> list[str]:
    """Return what stands between commas."""
    return [item.strip() for item in items.split(",") if item.strip()]


def load_settings(**changes: object) -> Settings:
    """Read the settings from the environment, flags on top (None: not given); all faults in one ConfigError."""
    try:
        return Settings(**{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(_fault(dict(e)) for e in error.errors())
        raise ConfigError(worded("settings.settings_not_valid", faults=faults)) from error


def _fault(error: dict[str, Any]) -> str:
    """Return what is wrong with one setting; what the API's keys are is never said."""
    name = ".".join(map(str, error["loc"]))
    value = "(not shown)" if name == "api_keys" else repr(error["input"])
    return f"{name} = {value}: {error['msg']}"
