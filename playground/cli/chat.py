"""The verb `madang chat`: one question or a conversation, in the terminal."""

import re
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from playground.cli.context import print_json, program
from playground.cli.terminal import Chat, show_answers
from playground.compare import Playground, Question
from playground.errors import ConfigError, UnknownNameError
from playground.events import Failed, Finished, Started
from playground.messages import Conversation
from playground.presets import DEFAULT_PRESET, Sampling, sampling
from playground.thinking.asked import spoken
from playground.wording import worded

DEFAULT_VARIANTS = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M"]
ESCAPE, ESCAPES = re.compile(r"\\([ntr\\])"), {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}

VariantOption = Annotated[
    list[str] | None, typer.Option("--variant", "-v", help="A variant to ask; repeat it. Default: the three built-in.")
]
PresetOption = Annotated[str, typer.Option("--preset", "-p", help="factual, balanced or creative.")]


def chat(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(help="Ask once and exit; '-' reads stdin. Without it: a chat.")] = None,
    variant: VariantOption = None,
    preset: PresetOption = DEFAULT_PRESET,
    seed: Annotated[int | None, typer.Option(help="Seed of the random generator; default: a fresh one.")] = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One sampling field: --set temperature=0.3; repeat it.")
    ] = None,
    think: Annotated[str, typer.Option(help="on, off, or how hard (low, medium, high), if it can.")] = "default",
    think_budget: Annotated[
        int | None, typer.Option("--think-budget", min=0, help="Tokens of thought; then the answer begins.")
    ] = None,
    parse_special: Annotated[
        bool,
        typer.Option("--parse-special", help="Read control tokens in a question as such, not as text."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a variant, a line each.")] = False,
) -> None:
    """Ask several variants side by side, in the terminal."""
    thinking = spoken(think, think_budget, strict=True)
    chosen = sampling(preset, **_fields(set_ or []) | ({} if seed is None else {"seed": seed}))
    names = list(dict.fromkeys(variant or DEFAULT_VARIANTS))
    program(context).prepare_embedded(names)
    playground = Playground(program(context).settings)
    try:
        if text is None:
            Chat(playground, names, chosen, thinking, system, parse_special).run()
            return
        messages = Conversation.start(system).ask(_text(text)).messages
        asked = Question(variant="", messages=messages, sampling=chosen, thinking=thinking, parse_special=parse_special)
        if not _ask_once(playground, [asked.model_copy(update={"variant": name}) for name in names], as_json):
            raise typer.Exit(1)
    finally:
        playground.close()


def _text(text: str) -> str:
    """Return the question, read from stdin where it is `-`; an empty one is an error."""
    text = sys.stdin.read() if text == "-" else text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # bytes that are no UTF-8
    if not text.strip():
        raise ConfigError(worded("cli_chat.question_empty"))
    return text


def _fields(pairs: list[str]) -> dict[str, object]:
    """Return sampling fields from `name=value`; numbers are read as numbers, `stop` may be repeated."""
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in Sampling.model_fields:
            raise UnknownNameError(
                worded("noun.sampling_field"), name, Sampling.model_fields, "Write --set name=value."
            )
        if name == "stop":
            fields[name] = (*fields.get(name, ()), ESCAPE.sub(lambda match: ESCAPES[match[1]], value))
        else:
            fields[name] = value
    return fields


def _ask_once(playground: Playground, questions: list[Question], as_json: bool) -> bool:
    """Ask and print the answers; return whether every variant answered."""
    names = [question.variant for question in questions]
    comparison = playground.ask(questions)
    if not as_json:
        return show_answers(Console(), comparison, names)
    rows: dict[str, dict[str, Any]] = {name: {"variant": name} for name in names}
    for event in comparison:
        if isinstance(event, Started):
            rows[event.variant] |= {"seed": event.seed, "dropped_turns": event.dropped_turns, "notices": event.notices}
        elif isinstance(event, Finished):
            said = {"text": event.text, "reasoning_content": event.reasoning or None, "reason": event.reason}
            rows[event.variant] |= said | event.stats.model_dump()
        elif isinstance(event, Failed):
            rows[event.variant] |= {"error": event.message, "hint": event.hint}
    for name in names:
        print_json(rows[name])
    return not any("error" in row for row in rows.values())
