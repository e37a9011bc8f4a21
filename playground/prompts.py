"""Turns a conversation into the exact text that a model receives, and says which tokens end an answer, in any engine.

Templates are rendered as transformers renders them (playground/template.py), without importing it: a llama.cpp worker
stays small, and both engines get the same characters.
"""

import json
import tomllib
from collections.abc import Container, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from playground import template
from playground.allowance import allowed
from playground.errors import UnknownNameError, VariantError
from playground.messages import Message
from playground.thinking import habits
from playground.traits import traits_of
from playground.typed.control import Control, marked, signs
from playground.typed.written import Written
from playground.values import Value
from playground.wording import worded

FORMATS_FILE = Path(__file__).with_name("formats.toml")
ON_FROM_HERE = "MADANG-GOES-ON-FROM-HERE"
"""Stands behind a message while a template writes it, and shows whether white space at its end stays."""
ENDS_FILE = Path(__file__).with_name("ends.toml")


class PromptFormat(Value):
    """A chat template in Jinja, the strings at which an answer in it ends, and what a question has before an input."""

    template: str
    stop: tuple[str, ...] = ()
    input: str = "\n\n"


@cache
def _formats() -> dict[str, PromptFormat]:
    rows = tomllib.loads(FORMATS_FILE.read_text(encoding="utf-8"))
    return {name: PromptFormat(**row) for name, row in rows.items()}


def format_names() -> list[str]:
    """Return the names of the prompt formats, for models that bring no chat template."""
    return list(_formats())


def prompt_format(name: str) -> PromptFormat:
    """Return one named prompt format; an unknown name is an error with near matches."""
    if name not in _formats():
        raise UnknownNameError(worded("noun.prompt_format"), name, _formats())
    return _formats()[name]


def end_tokens(words: Container[str]) -> set[str]:
    """Return the tokens of a vocabulary that end an answer by their spelling, as llama.cpp decides it.

    `words` may also be the text of a template: the tokens are then those that it writes.
    """
    known = tomllib.loads(ENDS_FILE.read_text(encoding="utf-8"))
    found = {end for end in known["ends"] if end in words}
    for rule in known["unless"]:
        if any(all(word in words for word in group) for group in rule["beside"]):
            found.discard(rule["end"])
    return found


def own_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the chat template that a model's folder brings; `config` is its tokenizer_config.json."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several by name, as transformers saved them once
        template = {row.get("name"): row.get("template") for row in template}
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) else None


def token_text(value: Any) -> str:
    """Return a special token as tokenizer_config.json has it: as a string, or as an object with `content`."""
    return str(value.get("content") or "") if isinstance(value, dict) else str(value or "")


def special_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return a folder's special tokens by the names that transformers gives a template; `config` as above.

    Folders that say nothing of `added_tokens_decoder` are of an older kind, whose special_tokens_map.json counts first.
    `extra_special_tokens`, where it names them, are among them.
    """
    file = folder / "special_tokens_map.json"
    older = _object(file) if "added_tokens_decoder" not in config and file.is_file() else {}
    extra = config.get("extra_special_tokens")
    named = {**config, **older, **(extra if isinstance(extra, dict) else {})}
    return {name: text for name, text in map(_token, named.items()) if text}


def _object(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VariantError(worded("prompts.not_valid_json", file=file, error=error)) from error
    return said if isinstance(said, dict) else {}


def _token(named: tuple[str, Any]) -> tuple[str, str]:
    name, value = named
    return name, token_text(value) if name.endswith("_token") and isinstance(value, str | dict) else ""


def choose(variant: str, own_template: str | None, format_name: str | None) -> PromptFormat:
    """Return the format of a variant: the one its catalogue row names, else the chat template of the model itself."""
    if format_name is not None:
        return prompt_format(format_name)
    if own_template:
        return PromptFormat(template=own_template)
    raise VariantError(
        worded("prompts.no_chat_template", variant=variant, format_names=", ".join(format_names())),
    )


def write(  # noqa: PLR0913 - a variable of the template each
    chosen: PromptFormat,
    messages: Sequence[Message],
    tokens: Mapping[str, str] | None = None,
    opened: bool = True,
    extra: Mapping[str, Any] | None = None,
    control: Control | None = None,
) -> Written:
    """Return the text that `render` returns, with the places where a message types one of the `control` tokens."""
    text = render(chosen, messages, tokens, opened, extra)
    if control is None or not control.typed_in(messages):
        return Written(text)
    begin, end = signs(messages)
    signed = render(chosen, marked(control, messages, begin, end), tokens, opened, extra)
    written = Written.with_signs(signed, begin, end, control)
    if written.text != text:
        raise VariantError(
            worded("prompts.message_holds_control"),
        )
    return written


def continued(
    chosen: PromptFormat,
    messages: Sequence[Message],
    tokens: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
    control: Control | None = None,
) -> Written:
    """Return the text up to the end of the last message, so that the model goes on with it, as transformers has it.

    White space at its end goes where the template takes it away. Raises VariantError where the template does not write
    the message as it is.
    """
    *before, last = messages
    marked = last.model_copy(update={"content": f"{last.content}{ON_FROM_HERE} "})
    written = write(chosen, [*before, marked], tokens, opened=False, extra=extra, control=control)
    at = written.text.rfind(ON_FROM_HERE)
    if written.text.count(ON_FROM_HERE) != 1 or last.content.strip() not in written.text:
        raise VariantError(
            worded("prompts.chat_template_not"),
        )
    kept = written.text[:at] if written.text.startswith(f"{ON_FROM_HERE} ", at) else written.text[:at].rstrip()
    return written._replace(text=kept, typed=tuple(place for place in written.typed if place[1] <= len(kept)))


def render(
    chosen: PromptFormat,
    messages: Sequence[Message],
    tokens: Mapping[str, str] | None = None,
    opened: bool = True,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Return the prompt text, ending where the answer begins. A template that refuses the turns raises VariantError.

    `tokens`: the special tokens by the names that templates know (Vocabulary.tokens); `extra`: more variables for the
    template, which win over all others. `opened` False leaves the beginning of an answer out: the text ends with the
    last turn. A system prompt that the template has no place for (Gemma's) goes in front of the first question.
    """
    traits = traits_of(chosen.template, tokens or {})
    if not traits.asks:
        raise VariantError(
            worded("prompts.chat_template_writes", format_names=", ".join(format_names())),
        )
    rows = [message.model_dump(exclude_none=True) for message in traits.arranged(messages)]
    turns = [traits.given(habits.turn(row, chosen.template)) for row in rows]
    try:
        return template.rendered(chosen.template, turns, opened, {**(tokens or {}), **(extra or {})})
    except template.FAULTS as error:
        raise VariantError(
            worded("prompts.chat_template_refused", error=error),
        ) from error


@allowed(seconds=template.PROBE_S)
def opening(chosen: PromptFormat, tokens: Mapping[str, str] | None = None) -> str:
    """Return what a template ends a prompt with so that an answer begins; empty where it adds nothing at its end."""
    question = [Message(role="user", content="x")]
    try:
        closed, opened = (render(chosen, question, tokens, opened=flag) for flag in (False, True))
    except VariantError:
        return ""
    return opened.removeprefix(closed) if opened.startswith(closed) else ""
