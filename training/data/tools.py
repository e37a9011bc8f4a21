"""What a chat template makes of tools, their calls and results, found out by rendering; turns as it is given them."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from playground import template
from playground.allowance import allowed
from playground.messages import Message
from playground.traits import Traits, traits_of
from playground.values import Value
from training.data.examples import Example, Turn

SAID, RESULT, OTHER, KEY, LAST = "zqSAIDqz", "zqRESULTqz", "zqOTHERqz", "zqKEYqz", "zqLASTqz"
SCHEMA = {"name": "zqTOOLqz", "description": "d", "parameters": {"type": "object", "properties": {}}}
TOOLS = {"tools": [{"type": "function", "function": SCHEMA}]}
ASKED = {"role": "user", "content": "zqASKEDqz"}
IDS = ("zqIDaaaa1", "zqIDaaaa2")
"""Of nine letters and digits, as Mistral's templates want them."""


class Spoken(Message):
    """A turn of training data as a template gets it: beside the chat's own, a tool's result or an answer that calls."""

    role: str  # type: ignore[assignment]
    tool_calls: tuple[Mapping[str, Any], ...] | None = None
    name: str | None = None
    tool_call_id: str | None = None


class Ways(Value):
    """What a template has a place for. `arguments`: as what it must be given those of a call; None: for no call."""

    schemas: bool
    arguments: Literal["object", "text"] | None
    several: bool
    beside: bool
    results: bool


def with_input(turn: Turn, section: str) -> Turn:
    """Return a question with its input behind what a prompt format has between the two."""
    ending = f"\n\n{turn.input}"
    if not turn.input or not turn.content.endswith(ending):
        return turn
    return turn._replace(content=turn.content.removesuffix(ending) + section + turn.input, input="")


def with_calls(turn: Turn, ways: Ways) -> Turn:
    """Return an answer with the arguments of its calls as the template takes them."""
    if "tool_calls" not in turn.extra or ways.arguments != "text":
        return turn
    calls = []
    for call in turn.extra["tool_calls"]:
        function = call["function"]
        said = json.dumps(function["arguments"], ensure_ascii=False)
        calls.append({**call, "function": {**function, "arguments": said}})
    return turn._replace(extra={**turn.extra, "tool_calls": tuple(calls)})


def spoken(turns: Sequence[Turn]) -> list[Message]:
    """Return turns as messages for a template."""
    return [
        Spoken(role=turn.role, content=turn.content, reasoning_content=turn.thought or None, **turn.extra)
        for turn in turns
    ]


def uses(example: Example) -> bool:
    """Return whether a row has anything to do with tools."""
    return bool(example.tools) or any(turn.extra or turn.role == "tool" for turn in example.turns)


def lacks(example: Example, ways: Ways) -> str:
    """Return what of a row's tools a template has no place for; empty where it writes all of them."""
    calling = [turn for turn in example.turns if "tool_calls" in turn.extra]
    several = any(len(turn.extra["tool_calls"]) > 1 for turn in calling)
    wrong = {
        "tools": bool(example.tools) and not ways.schemas,
        "calls of tools": bool(calling) and ways.arguments is None,
        "several calls in one answer": several and not ways.several,
        "text beside a call": not ways.beside and any(turn.content.strip() for turn in calling),
        "results of tools": not ways.results and any(turn.role == "tool" for turn in example.turns),
    }
    return next((what for what, holds in wrong.items() if holds), "")


def ways_of(source: str, tokens: Mapping[str, str]) -> Ways:
    """Return what a template has a place for, given the special tokens by name."""
    return _ways(source, tuple(sorted(tokens.items())))


@lru_cache(maxsize=32)
@allowed(seconds=template.PROBE_S)
def _ways(source: str, tokens: tuple[tuple[str, str], ...]) -> Ways:
    variables = dict(tokens)
    traits = traits_of(source, variables)

    def says(turns: Sequence[Mapping[str, Any]], given: Mapping[str, Any] = TOOLS) -> str:
        return _rendered(source, traits, turns, {**variables, **given})

    forms: tuple[Literal["object", "text"], ...] = ("object", "text")
    arguments = next((form for form in forms if _writes(says([ASKED, _calling(form)]), IDS[:1])), None)
    form = arguments or "object"
    two = says([ASKED, _calling(form, IDS), *(_result(one) for one in IDS), _answer(LAST)])
    one = says([ASKED, _calling(form), _result(IDS[0]), _answer(LAST)])
    known = [
        says([ASKED, _calling(form), {**_result(IDS[0]), "role": role}, _answer(LAST)])
        for role in ("user", "assistant")
    ]
    plain = [
        says([ASKED, _answer(SAID), {**_result(IDS[0]), "role": role}, _answer(LAST)])
        for role in ("tool", "user", "assistant")
    ]
    return Ways(
        schemas=SCHEMA["name"] in says([ASKED]),  # type: ignore[operator]
        arguments=arguments,
        several=_writes(two, IDS) and two.count(RESULT) == 2,
        beside=SAID in says([ASKED, {**_calling(form), "content": SAID}]),
        results=_told(one, known) or _told(plain[0], plain[1:]),
    )


def _told(text: str, others: Sequence[str]) -> bool:
    """Return whether a result is written, and otherwise than a question or an answer would be."""
    return RESULT in text and LAST in text and text not in others


def _writes(text: str, ids: Sequence[str]) -> bool:
    """Return whether a text has the calls with these ids: names, keys and values once, none as Python or in quotes."""
    values = all(f"call{one}" in text and f"value{one}" in text for one in ids)
    return values and KEY in text and f"'{KEY}'" not in text and f'\\"{KEY}' not in text


def _calling(form: Literal["object", "text"], ids: Sequence[str] = IDS[:1]) -> dict[str, Any]:
    calls = []
    for one in ids:
        arguments = {KEY: f"value{one}"}
        given = arguments if form == "object" else json.dumps(arguments)
        calls.append({"id": one, "type": "function", "function": {"name": f"call{one}", "arguments": given}})
    return {**_answer(""), "tool_calls": calls}


def _answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _result(call: str) -> dict[str, Any]:
    return {"role": "tool", "name": f"call{call}", "tool_call_id": call, "content": RESULT}


def _rendered(source: str, traits: Traits, turns: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
    """Return what a template makes of turns; empty where it refuses them."""
    try:
        return template.rendered(source, [traits.given(dict(turn)) for turn in turns], False, variables)
    except template.FAULTS:
        return ""
