"""One row of each format as an Example, or what is wrong with its shape."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from playground.thinking.habits import FIELDS
from playground.thinking.tags import common
from training.data.examples import Example, Row, Turn

SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant"}
"""Names of the two sides in ShareGPT files -> roles; other names stay, and the checks say which are none."""


LOSS = ("weight", "loss", "train", "training")
"""Fields of a turn that say whether it carries loss."""
RATINGS = {"true": True, "1": True, "1.0": True, "chosen": True}
RATINGS |= {"false": False, "0": False, "0.0": False, "rejected": False}
"""How files write the label of a rated answer: TRL as a boolean, CSV as text, NeMo-Aligner in words."""


class RowFault(NamedTuple):
    """Why a row cannot become an Example."""

    message: str
    remedy: str


class Unfit(Exception):
    """Raised for a row that cannot become an Example."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.fault = RowFault(message, remedy)


def turned(value: Any) -> Any:
    """Return a list that a CSV cell holds as JSON, as a list; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _text(value: Any, name: str) -> str:
    """Return a field as text: numbers as they are written, nothing as an empty text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise Unfit(f"{name} is {_a(value)} and no text", f"Write {name} as a text, or choose another --format.")


def _a(value: Any) -> str:
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__


def _content(value: Any, name: str = "content") -> str:
    """Return an OpenAI message's content, which is a text or a list of text parts."""
    if not isinstance(value, list):
        return _text(value, name)
    parts = []
    for part in value:
        if isinstance(part, dict) and part.get("type") == "thinking":
            continue
        if isinstance(part, dict) and part.get("type", "text") != "text":
            raise Unfit(f"a message holds {part['type']}, which is not trained", "Keep text parts alone.")
        parts.append(part.get("text") if isinstance(part, dict) else part)
    return "".join(_text(part, "a text part") for part in parts)


def _turns(value: Any, name: str) -> tuple[Turn, ...]:
    """Read a list of messages or of ShareGPT turns."""
    value = turned(value)
    if not isinstance(value, list):
        raise Unfit(f"{name} is {_a(value) if value is not None else 'missing'}", f"{name} must be a list of turns.")
    return tuple(_turn(turn, name) for turn in value)


def _turn(turn: Any, name: str) -> Turn:
    if not isinstance(turn, dict):
        raise Unfit(f"a turn of {name} is {_a(turn)}", 'Write turns as {"role": …, "content": …}.')
    if turn.get("tool_calls"):
        raise Unfit(f"a turn of {name} calls tools, which is not trained", "Leave such rows out.")
    role, said = ("role", "content") if "role" in turn else ("from", "value")
    if role in turn:
        named = _role(turn[role])
        thought = _thought(turn, turn.get(said)) if named == "assistant" else ""
        return Turn(named, _content(turn.get(said)), thought, _mark(turn), _input(turn, named))
    raise Unfit(f"a turn of {name} says no role", 'Write turns as {"role": …, "content": …}.')


def _thought(turn: dict[str, Any], content: Any) -> str:
    """Return what an answer's own field, or parts of its content, say was thought before it."""
    fields = [_content(turn[name], name) for name in FIELDS if turn.get(name) not in (None, True, False)]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    inner = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    fields += [_content(one) for one in inner if one]
    return next((field for field in fields if field.strip()), "")


def _input(turn: dict[str, Any], role: str) -> str:
    """Return which end of a question is an input, as a cleaned copy says it."""
    return _text(turn.get("input"), "input") if role == "user" and isinstance(turn.get("input"), str) else ""


def _mark(turn: dict[str, Any]) -> bool | None:
    """Return whether a turn says that it carries loss: OpenAI's weight, LLaMA-Factory's loss or axolotl's train."""
    said = [turn[name] for name in LOSS if turn.get(name) is not None]
    return not any(str(value).strip().lower() in ("0", "0.0", "false", "no") for value in said) if said else None


def _role(value: Any) -> str:
    name = _text(value, "role").strip().lower()
    return SPEAKERS.get(name, name)


def _alpaca(number: int, row: Row) -> Example:
    """Read instruction, input and output: an `input` that is not empty follows the instruction after a blank line."""
    question, extra = _text(row.get("instruction"), "instruction"), _text(row.get("input"), "input")
    if extra.strip():
        question, extra = (f"{question}\n\n{extra}", extra) if question.strip() else (extra, "")
    return _pair(number, question, row, extra)


def _koalpaca(number: int, row: Row) -> Example:
    return _pair(number, _text(row.get("instruction"), "instruction"), row)


def _pair(number: int, question: str, row: Row, extra: str = "") -> Example:
    answer = Turn("assistant", _text(row.get("output"), "output"), _thought(row, None))
    return _conversation(number, (Turn("user", question, input=extra.strip() and extra), answer))


def _conversation(number: int, turns: tuple[Turn, ...]) -> Example:
    return Example(number, "conversation", turns)


def _messages(number: int, row: Row) -> Example:
    names = [name for name in ("messages", "conversations") if row.get(name) is not None]
    name = names[0] if names else "messages"
    return _conversation(number, _turns(row.get(name), name))


def _sharegpt(number: int, row: Row) -> Example:
    name = "conversations" if row.get("conversations") is not None or "messages" not in row else "messages"
    return _conversation(number, _turns(row.get(name), name))


def _plain(number: int, row: Row) -> Example:
    return Example(number, "text", text=_text(row.get("text"), "text"))


def _preference(number: int, row: Row) -> Example:
    """Read a pair. What two whole conversations begin with is the prompt; the one turn that follows is the answer."""
    chosen, rejected = turned(row.get("chosen")), turned(row.get("rejected"))
    if not isinstance(chosen, list) and not isinstance(rejected, list):
        answers = _text(chosen, "chosen"), _text(rejected, "rejected")
        return Example(number, "preference", _prompt(row), chosen=answers[0], rejected=answers[1])
    sides = _side(chosen, "chosen"), _side(rejected, "rejected")
    shared = _shared(*sides)
    ends = [side[shared:] for side in sides]
    if any(len(end) != 1 or end[0].role != "assistant" for end in ends):
        raise Unfit(
            "chosen and rejected differ in more than their last answer", "Both must end with one answer of their own."
        )
    prompt = sides[0][:shared] or _prompt(row)
    return Example(number, "preference", prompt, chosen=_whole(ends[0][0]), rejected=_whole(ends[1][0]))


def _rated(number: int, row: Row) -> Example:
    """Read an answer with its label: TRL's prompt and completion, texts or messages, or a whole conversation."""
    good = rating(row.get("label"))
    if good is None:
        said = "no label" if row.get("label") is None else f"the label {str(row['label'])[:40]!r}"
        raise Unfit(f"a rated answer has {said}", "Write label as true (good) or false (bad).")
    if row.get("completion") is None:
        return replace(_messages(number, row), kind="rated", good=good)
    answer = _side(turned(row["completion"]), "completion")
    prompt = () if row.get("prompt") is None else _prompt(row)
    if prompt and len(answer) != 1:
        raise Unfit("completion is more than one answer", "Write earlier turns into prompt: the last answer is rated.")
    return Example(number, "rated", (*prompt, *answer), good=good)


def rating(label: Any) -> bool | None:
    """Return whether a label calls an answer good; None where it says neither."""
    return RATINGS.get(str(label).strip().lower())


def _whole(turn: Turn) -> str:
    """Return an answer with its thought in tags, where a field had it apart."""
    return common()[0].around(turn.thought, turn.content) if turn.thought.strip() else turn.content


def _side(value: Any, name: str) -> tuple[Turn, ...]:
    if isinstance(value, list):
        return _turns(value, name)
    return (Turn("assistant", _text(value, name)),)


def _shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> int:
    """Return how many turns both begin with; the last of either is never among them."""
    most = min(len(chosen), len(rejected)) - 1
    return next((place for place in range(most) if chosen[place] != rejected[place]), max(most, 0))


def _prompt(row: Row) -> tuple[Turn, ...]:
    prompt = turned(row.get("prompt"))
    return _turns(prompt, "prompt") if isinstance(prompt, list) else (Turn("user", _text(prompt, "prompt")),)


READERS: dict[str, Callable[[int, Row], Example]] = {
    "alpaca": _alpaca,
    "koalpaca": _koalpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "preference": _preference,
    "kto": _rated,
    "text": _plain,
}
"""Format -> its reader, which raises Unfit for a row that lacks what the format needs."""
