"""One row of each format as an Example, or what is wrong with its shape. What it does not ask for is not read."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from playground.thinking.tags import common
from training.data.cells import Cells, Unfit, blank, parsed
from training.data.examples import Example, Turn
from training.data.turns import PAIRS, headed, is_turn, mark_of, thought_of, turned, turns_in

SPOKEN = ("messages", "conversations", "conversation")
"""Columns that hold turns."""
SIDES = ("chosen", "rejected")
RATINGS = {"true": True, "1": True, "1.0": True, "chosen": True}
RATINGS |= {"false": False, "0": False, "0.0": False, "rejected": False}
"""How files write the label of a rated answer: TRL as a boolean, CSV as text, NeMo-Aligner in words."""
NO_INPUT = frozenset(("<noinput>", "<no input>", "&lt;noinput&gt;"))
"""What Alpaca's rows say where there is no input."""


def _conversation(number: int, row: Cells, turns: Sequence[Turn]) -> Example:
    """Return a conversation, none of whose answers is learnt where the row itself says so."""
    turns, mark = headed(row, turns), mark_of(row)
    return Example(
        number, "conversation", tuple(turn._replace(mark=False) for turn in turns) if mark is False else turns
    )


def _question(row: Cells) -> Turn:
    """Return an instruction; an `input` that is not empty follows it after a blank line, and is kept as its end."""
    question, extra = row.text("instruction"), row.optional("input")
    if extra.strip().lower() in NO_INPUT or not extra.strip():
        return Turn("user", question)
    return Turn("user", f"{question}\n\n{extra}", input=extra) if question.strip() else Turn("user", extra)


def _alpaca(number: int, row: Cells) -> Example:
    return _answered(number, row, _question(row), "output")


def _koalpaca(number: int, row: Cells) -> Example:
    return _answered(number, row, Turn("user", row.text("instruction")), "output")


def _orca(number: int, row: Cells) -> Example:
    return _answered(number, row, Turn("user", row.text("question")), "response")


def _answered(number: int, row: Cells, question: Turn, answer: str) -> Example:
    told = Turn("assistant", row.text(answer), thought_of(row, None))
    return _conversation(number, row, (question, told))


def _completion(number: int, row: Cells) -> Example:
    """Read TRL's pair, of texts or of turns: the completion carries the loss, and nothing of the prompt does."""
    if isinstance(row.values.get("prompt"), str) and not isinstance(turned(row.values["prompt"]), list | dict):
        row.remarks.append(("prompt-as-question", ""))
    asked = (turn._replace(mark=False) if turn.role == "assistant" else turn for turn in _asked(row))
    return _conversation(number, row, (*asked, *_side(row, "completion")))


def _rated(number: int, row: Cells) -> Example:
    """Read an answer with its label: a prompt and its completion, texts or messages, or a whole conversation."""
    said = row.take("label", "kto_tag")
    good = rating(said)
    if good is None:
        what = "no label" if said is None else f"the label {str(said)[:40]!r}"
        raise Unfit(f"a rated answer has {what}", "Write label as true (good) or false (bad).")
    answers = next((name for _, name in PAIRS if name in row.unread), "")
    if not answers and any(name in row.unread for name in SPOKEN):
        return replace(_spoken(number, row), kind="rated", good=good)
    answers = answers or next((name for _, name in PAIRS if name in row.values), PAIRS[-1][1])
    answer = _side(row, answers)
    asked = _asked(row)
    if asked and len(answer) != 1:
        raise Unfit(f"{answers} is more than one answer", "Write earlier turns into prompt: the last answer is rated.")
    return replace(_conversation(number, row, (*asked, *answer)), kind="rated", good=good)


def rating(label: Any) -> bool | None:
    """Return whether a label calls an answer good; None where it says neither."""
    return RATINGS.get(str(label).strip().lower())


def _spoken(number: int, row: Cells) -> Example:
    name = next((name for name in SPOKEN if name in row.unread), SPOKEN[0])
    return _conversation(number, row, turns_in(row.take(*SPOKEN), name, row))


def _xtuner(number: int, row: Cells) -> Example:
    """Read xtuner's turns: each an input and its output, the first with a system prompt."""
    pairs, turns = parsed(row.take("conversation")), list[Turn]()
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise Unfit("conversation is no list of pairs", 'Write it as [{"input": …, "output": …}, …].')
    for pair in pairs:
        turn = Cells(pair, row)
        system, mark = turn.optional("system"), mark_of(turn)
        turns += [Turn("system", system)] if system.strip() else []
        thought = thought_of(turn, None)
        turns += [Turn("user", turn.text("input")), Turn("assistant", turn.text("output"), thought, mark)]
        row.turns += turn.unread.items()
    return _conversation(number, row, turns)


def _plain(number: int, row: Cells) -> Example:
    return Example(number, "text", text=row.text("text"))


def _prompt(number: int, row: Cells) -> Example:
    """Read what is asked alone: every column but its own is kept for the reward, those that are read here, too."""
    name = next((name for name in ("prompt", *SPOKEN, "instruction", "question") if name in row.unread), "")
    is_text = name not in SPOKEN and not isinstance(turned(row.values.get(name)), list | dict)
    asked = _asked(row)
    turns = headed(row, asked)
    others = {key: value for key, value in row.values.items() if key != name}
    row.unread = {key: value for key, value in row.unread.items() if key not in others}
    columns = json.dumps(others, ensure_ascii=False, default=str)
    return Example(number, "prompt", turns, text=asked[0].content if is_text else "", columns=columns)


def _preference(number: int, row: Cells) -> Example:
    """Read a pair. What two whole conversations begin with is the prompt; the one turn that follows is the answer."""
    sides = _side(row, SIDES[0]), _side(row, SIDES[1])
    shared = _shared(*sides)
    ends = [side[shared:] for side in sides]
    if any(len(end) != 1 or end[0].role != "assistant" for end in ends):
        raise Unfit(
            "chosen and rejected differ in more than their last answer", "Both must end with one answer of their own."
        )
    chosen, rejected = (end[0] for end in ends)
    if chosen.extra or rejected.extra:
        raise Unfit("chosen or rejected calls tools, which no pair trains", "Leave such rows out.")
    if chosen.mark is False:
        raise Unfit("the chosen answer is marked as one that is not learnt", "Leave such rows out, or correct them.")
    begun = sides[0][:shared]
    prompt = begun if begun and begun[0].role != "assistant" else (*_asked(row), *begun)
    prompt = headed(row, prompt[:-1] if prompt and prompt[-1][:2] in (chosen[:2], rejected[:2]) else prompt)
    _repeated(row, prompt, chosen)
    return Example(number, "preference", prompt, chosen=_whole(chosen), rejected=_whole(rejected))


def _whole(turn: Turn) -> str:
    """Return an answer with its thought in tags, where a field had it apart."""
    return common()[0].around(turn.thought, turn.content) if turn.thought.strip() else turn.content


def _side(row: Cells, name: str) -> tuple[Turn, ...]:
    """Return an answer, or all that a column of turns holds."""
    value = turned(row.values.get(name))
    if not isinstance(value, list | dict):
        return (Turn("assistant", row.text(name), "" if name in SIDES else thought_of(row, None)),)
    row.take(name)
    return turns_in(value, name, row)


def _shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> int:
    """Return how many turns both begin with; the last of either is never among them."""
    most = min(len(chosen), len(rejected)) - 1
    same = (a[:3] == b[:3] for a, b in zip(chosen, rejected, strict=False))
    return next((place for place, equal in zip(range(most), same, strict=False) if not equal), max(most, 0))


def _asked(row: Cells) -> tuple[Turn, ...]:
    """Return what is asked: a prompt of texts or turns, turns of a conversation, an instruction or a question."""
    name = next((name for name in ("prompt", *SPOKEN) if name in row.unread), "")
    value = turned(row.values.get(name))
    if isinstance(value, dict) and "messages" in value:  # OpenAI's own preference format
        row.unread = {key: inner for key, inner in value.items() if not blank(inner)} | row.unread
        value = row.unread.pop("messages")
    if isinstance(value, list | dict) or name in SPOKEN:
        row.take(name)
        return turns_in(value, name, row)
    if not name and "instruction" in row.unread:
        return (_question(row),)
    return (Turn("user", row.text(name or "question")),)


def _repeated(row: Cells, prompt: tuple[Turn, ...], chosen: Turn) -> None:
    """Count columns as read that say once more what the pair says: UltraFeedback's `prompt` and `messages`."""
    said = [turn[:2] for turn in (*prompt, chosen) if turn.role != "system"]
    if row.unread.get("prompt") in [content for _, content in said]:
        row.take("prompt")
    for name in SPOKEN:
        if not is_turn(turned(row.unread.get(name))):
            continue
        again = [turn[:2] for turn in turns_in(row.unread[name], name, Cells({})) if turn.role != "system"]
        if again in (said, said[:-1]):
            row.take(name)


READERS: dict[str, Callable[[int, Cells], Example]] = {
    "alpaca": _alpaca,
    "koalpaca": _koalpaca,
    "sharegpt": _spoken,
    "messages": _spoken,
    "prompt-completion": _completion,
    "orca": _orca,
    "xtuner": _xtuner,
    "preference": _preference,
    "kto": _rated,
    "prompt": _prompt,
    "text": _plain,
}
"""Format -> its reader, which raises Unfit for a row that lacks what the format needs."""
