"""Ollama's Modelfile for a GGUF: its template in Go, the balanced preset, where answers end. Runs no Ollama.

The template is one of ollama.toml's, if that renders conversations to the very text of the model's own. Where none
does, TEMPLATE is left out, and the file says so: Ollama takes the one of its own that looks most like the GGUF's.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from playground.allowance import allowed
from playground.errors import VariantError
from playground.messages import Message
from playground.presets import DEFAULT_PRESET, preset
from playground.prompts import PromptFormat, choose, prompt_format, render, special_tokens
from playground.template import PROBE_S
from playground.values import Value
from training.export.pieces import read

FORMATS_FILE = Path(__file__).with_name("ollama.toml")
SENTINEL = "\x1dsystem\x1d"
NO_TEMPLATE = (
    "# This model's chat template has no form that Ollama reads, so Ollama guesses one and may ask otherwise than the",
    "# model was trained. llama.cpp (llama-server) reads the template in the GGUF; or write TEMPLATE by hand below.",
)
TURNS = (
    Message(role="user", content="안녕?"),
    Message(role="assistant", content="Hello."),
    Message(role="user", content="Where is the courtyard?"),
)


class _Known(Value):
    """A chat format twice: as Ollama reads it, and in Jinja to hold others against."""

    go: str
    stop: tuple[str, ...]
    jinja: str = ""
    format: str = ""

    @property
    def template(self) -> PromptFormat:
        """Return its Jinja template."""
        return prompt_format(self.format) if self.format else PromptFormat(template=self.jinja)


@dataclass(frozen=True)
class Chat:
    """How a model is talked to, from its tokenizer's files: template, first and last tokens, where answers end."""

    template: PromptFormat | None
    bos: str
    eos: str
    ends: tuple[str, ...]

    @classmethod
    def read(cls, tokenizer: Path, base: Path, own: str | None, format_name: str | None) -> "Chat":
        """Read it from the folder with the tokenizer and the one with generation_config.json.

        `own`: the model's chat template, over which a named format wins.
        """
        config = read(tokenizer / "tokenizer_config.json")
        special = special_tokens(tokenizer, config)
        eos = special.get("eos_token", "")
        ids = read(base / "generation_config.json").get("eos_token_id")
        added = {row["id"]: row["content"] for row in read(tokenizer / "tokenizer.json").get("added_tokens", [])}
        ends = [added.get(number, "") for number in (ids if isinstance(ids, list) else [ids])]
        try:
            template = choose(str(tokenizer), own, format_name)
        except VariantError:
            template = None
        found = dict.fromkeys([eos, *ends, *(template.stop if template else ())])
        return cls(template, special.get("bos_token", ""), eos, tuple(filter(None, found)))


def text(gguf_name: str, chat: Chat) -> str:
    """Return the Modelfile of a GGUF that lies beside it."""
    known, system = _recognised(chat)
    lines = [*(NO_TEMPLATE if chat.template and known is None else ()), f"FROM ./{gguf_name}"]
    if known is not None:
        lines.append(f'TEMPLATE """{known.go.replace("{eos}", chat.eos)}"""')
    if system:
        lines.append(f'SYSTEM """{system}"""')
    lines += _parameters()
    stops = dict.fromkeys([*chat.ends, *(known.stop if known else ())])
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in stops]
    return "\n".join(lines) + "\n"


def _parameters() -> list[str]:
    sampling = preset(DEFAULT_PRESET)
    values = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": -1,
        "num_predict": sampling.max_new_tokens,
    }
    return [f"PARAMETER {name} {value}" for name, value in values.items()]


@allowed(seconds=PROBE_S)
def _recognised(chat: Chat) -> tuple[_Known | None, str]:
    """Return the known format that renders the same text, with and without a system turn, and its system text."""
    if chat.template is None:
        return None, ""
    spoken = (Message(role="system", content="Be brief."), *TURNS)
    for known in _known().values():
        if _rendered(chat.template, spoken, chat) != _rendered(known.template, spoken, chat):
            continue
        system = _own_system(chat, known)
        if system is not None:
            return known, system
    return None, ""


def _own_system(chat: Chat, known: _Known) -> str | None:
    """Return the system text that the model's template says by itself; empty: none; None: it does something else."""
    assert chat.template is not None
    own = _rendered(chat.template, TURNS, chat)
    if own is None or own == _rendered(known.template, TURNS, chat):
        return own and ""
    around = _rendered(known.template, (Message(role="system", content=SENTINEL), *TURNS), chat)
    before, _, after = (around or "").partition(SENTINEL)
    if around and len(own) > len(before) + len(after) and own.startswith(before) and own.endswith(after):
        return own[len(before) : len(own) - len(after)]
    return None


def _rendered(template: PromptFormat, turns: tuple[Message, ...], chat: Chat) -> str | None:
    try:
        return render(template, turns, {"bos_token": chat.bos, "eos_token": chat.eos}).removeprefix(chat.bos)
    except VariantError:
        return None


@cache
def _known() -> dict[str, _Known]:
    rows = tomllib.loads(FORMATS_FILE.read_text(encoding="utf-8"))
    return {name: _Known(**row) for name, row in rows.items()}


def _quoted(stop: str) -> str:
    return '"' + stop.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
