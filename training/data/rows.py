"""One row of each format as an Example, or what is wrong with its shape. What it does not ask for is not read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from playground.thinking.habits import FIELDS as THOUGHTS
from playground.thinking.tags import common
from training.data.cells import Cells, Unfit, a, parsed
from training.data.examples import Example, Turn

SPEAKERS = {name: "assistant" for name in ("gpt", "bot", "chatgpt", "model", "ai")}
SPEAKERS |= {"human": "user", "prompter": "user", "developer": "system"}
"""Names of the sides in ShareGPT files and others -> roles; other names stay, and the checks say which are none."""
LOSS = ("weight", "loss", "train", "training", "output_with_loss")
"""Fields of a turn or of a row that say whether it carries loss."""
SPOKEN = ("messages", "conversations", "conversation")
"""Columns that hold turns."""
SIDES = ("chosen", "rejected")
SYSTEM = ("system", "system_prompt")
PAIRS = (("instruction", "output"), ("question", "response"), ("prompt", "completion"))
"""Columns of a question and its answer, beside which `system`, `history` and a thought may stand."""
PAST = (*PAIRS, ("question", "answer"), ("prompt", "response"), ("user", "assistant"), ("input", "output"))
"""Keys of a pair in `history`, where it is an object."""
RATINGS = {"true": True, "1": True, "1.0": True, "chosen": True}
RATINGS |= {"false": False, "0": False, "0.0": False, "rejected": False}
"""How files write the label of a rated answer: TRL as a boolean, CSV as text, NeMo-Aligner in words."""
NO_INPUT = frozenset(("<noinput>", "<no input>", "&lt;noinput&gt;"))
"""What Alpaca's rows say where there is no input."""


def turned(value: Any) -> Any:
    """Return a turn or a list of them that a cell holds as text as what it is; anything else as it is."""
    found = parsed(value)
    return found if isinstance(value, list | dict) or _is_turn(found) else value


def _is_turn(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and bool(first.keys() & {"role", "from"})


def _content(value: Any, turn: Cells, name: str = "content") -> str:
    """Return an OpenAI message's content, which is a text or a list of text parts."""
    if not isinstance(value, list):
        return turn.written(value, name)
    parts = []
    for part in value:
        if isinstance(part, dict) and part.get("type") == "thinking":
            continue
        if isinstance(part, dict) and part.get("type", "text") != "text":
            raise Unfit(f"a message holds {part['type']}, which is not trained", "Keep text parts alone.")
        parts.append(part.get("text") if isinstance(part, dict) else part)
    return "".join(turn.written(part, "a text part") for part in parts)


def _turns(value: Any, name: str, row: Cells) -> tuple[Turn, ...]:
    """Read a list of messages or of ShareGPT turns, or a single one."""
    value = parsed(value)
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list):
        raise Unfit(f"{name} is {a(value) if value is not None else 'missing'}", f"{name} must be a list of turns.")
    return tuple(_turn(turn, name, row) for turn in value)


def _turn(value: Any, name: str, row: Cells) -> Turn:
    if not isinstance(value, dict):
        raise Unfit(f"a turn of {name} is {a(value)}", 'Write turns as {"role": …, "content": …}.')
    turn = Cells(value, row)
    if value.get("tool_calls"):
        raise Unfit(f"a turn of {name} calls tools, which is not trained", "Leave such rows out.")
    role = turn.text("role", "from").strip().lower()
    if not role:
        raise Unfit(f"a turn of {name} says no role", 'Write turns as {"role": …, "content": …}.')
    role, said = SPEAKERS.get(role, role), turn.take("content", "value")
    thought = _thought(turn, said) if role == "assistant" else ""
    content, mark = _content(said, turn), _mark(turn)
    if mark and role != "assistant":
        row.remarks.append(("learnt-questions", role))
    row.turns += turn.unread.items()
    return Turn(role, content, thought, mark)


def _thought(turn: Cells, content: Any) -> str:
    """Return what an answer's own field, or parts of its content, say was thought before it."""
    names = [name for name in THOUGHTS if name in turn.unread and not isinstance(turn.unread[name], bool)]
    fields = [_content(turn.take(*names), turn, *names[:1])]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    inner = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    fields += [_content(one, turn) for one in inner if one]
    return next((field for field in fields if field.strip()), "")


def _mark(cells: Cells) -> bool | None:
    """Return whether OpenAI's weight, LLaMA-Factory's loss or axolotl's train say that there is loss, if they do.

    Any 0 or false is enough; a weight below 0 is no loss either, any other counts as 1.
    """
    said = [_weight(cells, cells.take(name)) for name in LOSS if name in cells.unread]
    return all(said) if said else None


def _weight(cells: Cells, value: Any) -> bool:
    said = str(value).strip().lower()
    try:
        number = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}.get(said)
        number = float(said) if number is None else number
    except ValueError:
        number = float("nan")
    if number not in (0, 1):
        cells.remarks.append(("weights", said))
    return not number <= 0


def _optional_turns(row: Cells) -> tuple[Turn, ...]:
    """Return the system prompt and the earlier turns that stand in columns of their own."""
    system = row.optional(*SYSTEM)
    return (*((Turn("system", system),) if system.strip() else ()), *_history(row))


def _history(row: Cells) -> tuple[Turn, ...]:
    """Read LLaMA-Factory's `history`: pairs of a question and its answer, the oldest first."""
    value = parsed(row.values.get("history"))
    if not isinstance(value, list) and not row.optional("history"):
        return ()
    row.take("history")
    if _is_turn(value):
        return _turns(value, "history", row)
    turns: list[Turn] = []
    for pair in value if isinstance(value, list) else [value]:
        if isinstance(pair, dict):
            pair = next(([pair[ask], pair[tell]] for ask, tell in PAST if {ask, tell} <= pair.keys()), None)
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Unfit("history is no list of pairs", 'Write history as [["question", "answer"], …], oldest first.')
        asked, told = (row.written(said, "history") for said in pair)
        turns += [Turn("user", asked), Turn("assistant", told)]
    return tuple(turns)


def _headed(row: Cells, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Put what stands in columns of its own in front of turns; a system turn among them wins over the column."""
    before = _optional_turns(row)
    own = turns[0].content.strip() if turns and turns[0].role == "system" else ""
    if before and before[0].role == "system" and own:
        if own != before[0].content.strip():
            row.remarks.append(("two-system-prompts", ""))
        before = before[1:]
    if not own:
        return (*before, *(turns[1:] if before and turns and turns[0].role == "system" else turns))
    return (turns[0], *before, *turns[1:])


def _conversation(number: int, row: Cells, turns: Sequence[Turn]) -> Example:
    """Return a conversation, none of whose answers is learnt where the row itself says so."""
    turns, mark = _headed(row, turns), _mark(row)
    return Example(number, "conversation", _unlearnt(turns) if mark is False else turns)


def _unlearnt(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    return tuple(turn._replace(mark=False) for turn in turns)


def _question(row: Cells) -> str:
    """Return an instruction; an `input` that is not empty follows it after a blank line."""
    question, extra = row.text("instruction"), row.optional("input")
    if extra.strip().lower() in NO_INPUT or not extra.strip():
        return question
    return f"{question}\n\n{extra}" if question.strip() else extra


def _alpaca(number: int, row: Cells) -> Example:
    return _answered(number, row, _question(row), "output")


def _koalpaca(number: int, row: Cells) -> Example:
    return _answered(number, row, row.text("instruction"), "output")


def _orca(number: int, row: Cells) -> Example:
    return _answered(number, row, row.text("question"), "response")


def _answered(number: int, row: Cells, question: str, answer: str) -> Example:
    told = Turn("assistant", row.text(answer), _thought(row, None))
    return _conversation(number, row, (Turn("user", question), told))


def _completion(number: int, row: Cells) -> Example:
    """Read TRL's pair, of texts or of turns: the completion carries the loss, and nothing of the prompt does."""
    if isinstance(row.values.get("prompt"), str) and not isinstance(turned(row.values["prompt"]), list | dict):
        row.remarks.append(("prompt-as-question", ""))
    return _conversation(number, row, (*_unlearnt(_asked(row)), *_side(row, "completion")))


def _rated(number: int, row: Cells) -> Example:
    """Read an answer with its label: a prompt and its completion, texts or messages, or a whole conversation."""
    said = row.take("label", "kto_tag")
    good = rating(said)
    if good is None:
        what = "no label" if said is None else f"the label {str(said)[:40]!r}"
        raise Unfit(f"a rated answer has {what}", "Write label as true (good) or false (bad).")
    answers = next((name for _, name in PAIRS if name in row.unread), "")
    if not answers:
        return replace(_spoken(number, row), kind="rated", good=good)
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
    return _conversation(number, row, _turns(row.take(*SPOKEN), name, row))


def _xtuner(number: int, row: Cells) -> Example:
    """Read xtuner's turns: each an input and its output, the first with a system prompt."""
    pairs, turns = parsed(row.take("conversation")), list[Turn]()
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
        raise Unfit("conversation is no list of pairs", 'Write it as [{"input": …, "output": …}, …].')
    for pair in pairs:
        turn = Cells(pair, row)
        system, mark = turn.optional("system"), _mark(turn)
        turns += [Turn("system", system)] if system.strip() else []
        thought = _thought(turn, None)
        turns += [Turn("user", turn.text("input")), Turn("assistant", turn.text("output"), thought, mark)]
        row.turns += turn.unread.items()
    return _conversation(number, row, turns)


def _plain(number: int, row: Cells) -> Example:
    return Example(number, "text", text=row.text("text"))


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
    if chosen.mark is False:
        raise Unfit("the chosen answer is marked as one that is not learnt", "Leave such rows out, or correct them.")
    prompt = sides[0][:shared] or _asked(row)
    prompt = _headed(row, prompt[:-1] if prompt[-1:] == (chosen,) else prompt)
    _repeated(row, prompt, chosen)
    return Example(number, "preference", prompt, chosen=_whole(chosen), rejected=_whole(rejected))


def _whole(turn: Turn) -> str:
    """Return an answer with its thought in tags, where a field had it apart."""
    return common()[0].around(turn.thought, turn.content) if turn.thought.strip() else turn.content


def _side(row: Cells, name: str) -> tuple[Turn, ...]:
    """Return an answer, or all that a column of turns holds."""
    value = turned(row.values.get(name))
    if not isinstance(value, list | dict):
        return (Turn("assistant", row.text(name), "" if name in SIDES else _thought(row, None)),)
    row.take(name)
    return _turns(value, name, row)


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
        value = value["messages"]
    if isinstance(value, list | dict) or name in SPOKEN:
        row.take(name)
        return _turns(value, name, row)
    question = row.text("prompt") if name else _question(row) if "instruction" in row.unread else row.text("question")
    return (Turn("user", question),)


def _repeated(row: Cells, prompt: tuple[Turn, ...], chosen: Turn) -> None:
    """Count columns as read that say once more what the pair says: UltraFeedback's `prompt` and `messages`."""
    said = [turn.content for turn in (*prompt, chosen)]
    if row.unread.get("prompt") in said:
        row.take("prompt")
    for name in SPOKEN:
        value = turned(row.unread.get(name))
        texts = [turn.get("content", turn.get("value")) for turn in value] if _is_turn(value) else []
        if texts and texts in (said, said[:-1]):
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
    "text": _plain,
}
"""Format -> its reader, which raises Unfit for a row that lacks what the format needs."""
