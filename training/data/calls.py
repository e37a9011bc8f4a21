"""Tools, their calls and results as files write them, read as OpenAI and transformers have them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from training.data.cells import EMPTY, Cells, Unfit, a, blank, parsed
from training.data.examples import Turn

CALLS = frozenset(("function_call", "tool_call", "tool_calls"))
RESULTS = frozenset(("observation", "function", "ipython", "tool_response", "tool_responses", "function_response"))
"""Roles of LLaMA-Factory, ms-swift and others for an answer that is nothing but calls, and for what came of them."""
CALL = frozenset(("id", "type", "function", "name", "arguments", "parameters"))
TAG = "<tools>"
REMEDY = 'Write calls as OpenAI does: {"function": {"name": …, "arguments": {…}}}.'


def schemas(value: Any, turns: tuple[Turn, ...] = ()) -> tuple[Mapping[str, Any], ...]:
    """Read a `tools` column: schemas of functions, bare or as OpenAI has them, or JSON text of these.

    Those that the system turn writes out in full, as Hermes does, are not given to the template a second time.
    """
    if blank(value) or str(value).strip().lower() in EMPTY:
        return ()
    given = parsed(value)
    filled = not isinstance(value, str)  # which a table does; text has what was written
    found = tuple(_schema(tool, filled) for tool in (given if isinstance(given, list) else [given]))
    system = turns[0].content if turns and turns[0].role == "system" else ""
    told = TAG in system and all(f'"{tool["function"]["name"]}"' in system for tool in found)
    return () if told else found


def _schema(value: Any, filled: bool) -> dict[str, Any]:
    tool, filled = parsed(value), filled and not isinstance(value, str)
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unfit(
            f"tools holds {a(tool)} that is no schema of a function", "Write each with its name and parameters."
        )
    whole = {"type": "function", **tool} if function is not tool else {"type": "function", "function": tool}
    return _without_nulls(whole) if filled else whole


def _without_nulls(value: Any) -> Any:
    """Leave out keys without a value: a table's columns give every schema the keys of all others."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def part(turn: Cells, role: str, content: Any) -> tuple[str, Any, dict[str, Any]]:
    """Return a turn's role, what it says, and its calls, or of a result whose it is."""
    if role in CALLS:
        return "assistant", "", {"tool_calls": _calls(content, turn)}
    if role in RESULTS or role == "tool":
        named = {name: turn.text(name) for name in ("name", "tool_call_id") if not blank(turn.values.get(name))}
        return "tool", _result(content), named
    if role != "assistant":
        return role, content, {}
    called, old = turn.take("tool_calls"), turn.take("function_call")
    called = called if not blank(called) else old
    return role, content, {} if blank(called) else {"tool_calls": _calls(called, turn)}


def joined(turns: Sequence[tuple[Mapping[str, Any], Turn]]) -> tuple[Turn, ...]:
    """Make one answer of an answer and the turns of calls that follow it, as ms-swift writes several calls."""
    found: list[Turn] = []
    for written, turn in turns:
        named = str(written.get("role") or written.get("from")).strip().lower()
        if named in CALLS and found and found[-1].role == "assistant":
            known = found.pop()
            both = (*known.extra.get("tool_calls", ()), *turn.extra["tool_calls"])
            mark = known.mark if turn.mark is None else turn.mark and known.mark is not False
            thought = "\n\n".join(filter(None, (known.thought, turn.thought)))
            turn = known._replace(extra={"tool_calls": both}, mark=mark, thought=thought)
        found.append(turn)
    return tuple(found)


def _result(content: Any) -> Any:
    """Return what a tool gave as text; an object as JSON."""
    parts = isinstance(content, list) and all(isinstance(one, dict) and "type" in one for one in content)
    return json.dumps(content, ensure_ascii=False) if isinstance(content, dict | list) and not parts else content


def _calls(value: Any, turn: Cells) -> tuple[Mapping[str, Any], ...]:
    value = parsed(value)
    return tuple(_call(parsed(one), turn) for one in (value if isinstance(value, list) else [value]))


def _nulls(value: Any) -> Iterator[str]:
    """Yield the names of what a table left without a value, at any depth; text says null where it means it."""
    inside = value.items() if isinstance(value, dict) else ()
    yield from (name for name, inner in inside if inner is None)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nulls(inner)


def _call(value: Any, turn: Cells) -> Mapping[str, Any]:
    function = parsed(value.get("function", value)) if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Unfit(f"a call of a tool is {a(value)} without a name", REMEDY)
    given = function.get("arguments", function.get("parameters"))
    arguments = {} if blank(given) else parsed(given)
    if not isinstance(arguments, dict):
        raise Unfit(f"the arguments of a call are {a(arguments)} and no object", REMEDY)
    turn.remarks.extend(("null-arguments", name) for name in _nulls(given))
    for name, said in {**value, **function}.items():
        if name not in CALL and not blank(said):
            turn.unread[f"tool_calls.{name}"] = said
    own = {"id": value["id"]} if isinstance(value.get("id"), str) else {}
    return {**own, "type": "function", "function": {"name": function["name"], "arguments": arguments}}
