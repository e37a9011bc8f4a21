"""Plans of engines: what each has in common, one process, its address and the rows it answers for. Starts nothing."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from playground.catalogue import variants
from playground.catalogue.variants import Remote, Stored
from playground.errors import ConfigError, MadangError, VariantError
from playground.prompts import format_names, prompt_format
from playground.settings import Settings, child_environment
from playground.system.atomic import write_beside
from playground.wording import worded

KEYS = "MADANG_API_KEYS"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""Hosts that mean every address of this machine, and the one under which it reaches itself."""
LAST_PORT = 65_535
OURS = {
    "--host": "Madang's own --host",
    "--port": "Madang's own --port",
    "--api-key": KEYS,
    "--api-key-file": KEYS,
    "--served-model-name": "--name, which names the rows",
    "--alias": "--name, which names the rows",
    "--uds": "a proxy before Madang's --port",
    "--ssl-keyfile": "a proxy before Madang's --port",
    "--ssl-certfile": "a proxy before Madang's --port",
    "--ssl-key-file": "a proxy before Madang's --port",
    "--ssl-cert-file": "a proxy before Madang's --port",
}
"""Flags of engines that Madang must set itself, since it reaches the engine by what they say; what to use instead."""


@dataclass(frozen=True)
class Wish:
    """What a person asks of an engine, beside the variants. `flags` go to it as they are, after ours."""

    settings: Settings
    command: tuple[str, ...] | None = None
    flags: tuple[str, ...] = ()
    parallel: int = 4
    adapters: bool = True

    @property
    def key(self) -> str | None:
        """The key that the engine is to ask for, None for none; raises ConfigError where there are several."""
        from playground.server.guards.keys import read_keys

        if not read_keys(self.settings):
            return None
        text = self.settings.api_keys.get_secret_value().strip()
        if not text or "," in text or self.settings.api_keys_file is not None:
            raise ConfigError(
                worded(
                    "plan.engine_own_takes",
                    keys=KEYS,
                    value=worded("plan.several_keys")
                    if "," in text
                    else worded("plan.no_key")
                    if not text
                    else worded("plan.key_and_file"),
                ),
            )
        return text


@dataclass(frozen=True)
class Plan:
    """One process. `environment` may be shown; `key_variable` names the variable through which it gets its key."""

    title: str
    command: tuple[str, ...]
    host: str
    port: int
    rows: tuple[Remote, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    key_variable: str | None = None
    keys: tuple[str, ...] = ()
    """Variables with keys that it needs beside its own."""
    missing: str = ""
    """What to install where the program is not on this machine; empty where it is."""
    wrong: Mapping[str, MadangError] = field(default_factory=dict)
    """Words in the process's log that mean its answers would be wrong, each with why and the way out."""

    @property
    def address(self) -> str:
        """The URL at which this machine reaches it, without a path."""
        return address(self.host, self.port)

    @property
    def shown(self) -> str:
        """The command as a person would type it; a key appears as the variable that holds it."""
        known = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        secret = [f'{self.key_variable}="${KEYS}"'] if self.key_variable else []
        return " ".join([*known, *secret, shlex.join(self.command)])

    def renamed(self, names: Mapping[str, str]) -> "Plan":
        """Return the plan with other names for the rows of some variants."""
        rows = []
        for row in self.rows:
            given = variants.parse(
                row.model_dump() | {"name": names.get(row.model or "", row.name)}, "the server's row"
            )
            assert isinstance(given, Remote)
            rows.append(given)
        return replace(self, rows=tuple(rows))

    def full_environment(self, key: str | None) -> dict[str, str]:
        """Return what the process finds in its environment."""
        secret = {self.key_variable: key} if self.key_variable and key else {}
        return child_environment({**self.environment, **secret}, keys=self.keys)


def address(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that listens on a host and a port."""
    near = EVERYWHERE.get(host.strip("[]"), host.strip("[]"))
    return f"http://{f'[{near}]' if ':' in near else near}:{port}"


def check_flags(flags: Sequence[str]) -> None:
    """Refuse flags that would make an engine listen elsewhere, or call its models otherwise, than its rows say."""
    for flag in flags:
        name = flag.partition("=")[0].replace("_", "-")
        if name in OURS:
            raise ConfigError(worded("plan.after_would_hide", flag=flag, ours=OURS[name]))


def refuse_fake(variant: Stored, what: str) -> None:
    """Refuse a variant that stands for no files."""
    if variant.is_fake:
        raise VariantError(worded("plan.fake_no_files", variant=variant.name, what=what))


def no_template(variant: Stored) -> VariantError:
    """Return what to raise where neither a model's files nor its row say how it is prompted."""
    return VariantError(
        worded("plan.no_chat_template", variant=variant.name, format_names=", ".join(format_names())),
    )


def row(variant: Stored, engine: str, wish: Wish, port: int) -> Remote:
    """Return the remote variant under which an engine answers for a variant."""
    return Remote(
        name=f"{variant.name}-{engine}",
        url=f"{address(wish.settings.host, port)}/v1",
        model=variant.name,
        base=variant.name,
        context=variant.context,
        key_env=KEYS if wish.key else None,
    )


def program(given: Sequence[str] | None, setting: str, name: str) -> tuple[str, ...] | None:
    """Return the command that starts an engine: as given, as set, or as found on PATH; None where there is none."""
    if given:
        return tuple(given)
    if setting.strip():
        return tuple(shlex.split(setting))
    found = shutil.which(name)
    return (found,) if found else None


def template_file(settings: Settings, format_name: str) -> Path:
    """Write a named prompt format as a Jinja file for engines to read, and return its path in the data folder."""
    folder = settings.data / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{format_name}.jinja"
    write_beside(path, prompt_format(format_name).template)
    return path


def check_ports(first: int, count: int) -> None:
    """Refuse more servers than there are ports left above the first."""
    if first + count - 1 > LAST_PORT:
        raise ConfigError(worded("plan.servers_port_would", count=count, first=first, last_port=LAST_PORT))
