"""Turns as files write them: messages, ShareGPT's, and those that stand in columns beside the conversation."""

from collections.abc import Sequence
from typing import Any

from playground.thinking.habits import FIELDS as THOUGHTS
from training.data import calls
from training.data.cells import Cells, Unfit, a, blank, parsed
from training.data.examples import Turn

SPEAKERS = {name: "assistant" for name in ("gpt", "bot", "chatgpt", "model", "ai")}
SPEAKERS |= {"human": "user", "prompter": "user", "developer": "system"}
"""Names of the sides in ShareGPT files and others -> roles; other names stay, and the checks say which are none."""
TEXTS = ("text", "input_text", "output_text")
"""Kinds of parts that are text."""
PART = ("type", "text")
LOSS = ("weight", "loss", "train", "training", "output_with_loss")
"""Fields of a turn or of a row that say whether it carries loss."""
WORDS = dict.fromkeys(("true", "yes", "on", "예", "네"), "1") | dict.fromkeys(
    ("false", "no", "off", "아니오", "아니요"), "0"
)
"""Yes and no as files write them."""
SYSTEM = ("system", "system_prompt")
PAIRS = (("instruction", "output"), ("question", "response"), ("prompt", "completion"))
"""Columns of a question and its answer, beside which `system`, `history` and a thought may stand."""
PAST = (*PAIRS, ("question", "answer"), ("prompt", "response"), ("user", "assistant"), ("input", "output"))
"""Keys of a pair in `history`, where it is an object."""


def turned(value: Any) -> Any:
    """Return a turn or a list of them that a cell holds as text as what it is; anything else as it is."""
    found = parsed(value)
    return found if isinstance(value, list | dict) or is_turn(found) else value


def is_turn(value: Any) -> bool:
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
        if isinstance(part, dict) and part.get("type", "text") not in TEXTS:
            raise Unfit(f"a message holds {part['type']}, which is not trained", "Keep text parts alone.")
        parts.append(part.get("text") if isinstance(part, dict) else part)
        more = part.items() if isinstance(part, dict) else ()
        turn.unread |= {f"content.{key}": said for key, said in more if key not in PART and not blank(said)}
    return "".join(turn.written(part, "a text part") for part in parts)


def turns_in(value: Any, name: str, row: Cells) -> tuple[Turn, ...]:
    """Read a list of messages or of ShareGPT turns, or a single one."""
    value = parsed(value)
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list):
        raise Unfit(f"{name} is {a(value) if value is not None else 'missing'}", f"{name} must be a list of turns.")
    return calls.joined([(turn, _turn(turn, name, row)) for turn in value])


def _turn(value: Any, name: str, row: Cells) -> Turn:
    if not isinstance(value, dict):
        raise Unfit(f"a turn of {name} is {a(value)}", 'Write turns as {"role": …, "content": …}.')
    turn = Cells(value, row)
    role = turn.text("role", "from").strip().lower()
    if not role:
        raise Unfit(f"a turn of {name} says no role", 'Write turns as {"role": …, "content": …}.')
    role, said, called = calls.part(turn, SPEAKERS.get(role, role), turn.take("content", "value"))
    content, thought, mark, extra = _content(said, turn), "", None, ""
    if role == "assistant" and (turn.unread or isinstance(said, list)):
        thought = thought_of(turn, said)
    if turn.unread:
        mark = mark_of(turn)
        if mark and role != "assistant":
            row.remarks.append(("learnt-questions", role))
        if role == "user" and content.endswith(f"\n\n{value.get('input')}"):
            extra = turn.text("input")  # a cleaned copy says which end of a question is one
        row.turns += turn.unread.items()
    return Turn(role, content, thought, mark, extra, called)


def thought_of(turn: Cells, content: Any) -> str:
    """Return what an answer's own field, or parts of its content, say was thought before it."""
    names = [name for name in THOUGHTS if name in turn.unread and not isinstance(turn.unread[name], bool)]
    fields = [_content(turn.take(*names), turn, *names[:1])]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    inner = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    fields += [_content(one, turn) for one in inner if one]
    return next((field for field in fields if field.strip()), "")


def mark_of(cells: Cells) -> bool | None:
    """Return whether OpenAI's weight, LLaMA-Factory's loss or axolotl's train say that there is loss, if they do.

    Any 0 or false is enough; a weight below 0 is no loss either, any other counts as 1.
    """
    said = [_weight(cells, cells.take(name)) for name in LOSS if name in cells.unread]
    return all(said) if said else None


def _weight(cells: Cells, value: Any) -> bool:
    said = str(value).strip().lower()
    try:
        number = float(WORDS.get(said, said))
    except ValueError:
        number = float("nan")
    if number not in (0, 1):
        cells.remarks.append(("weights", said))
    return not number <= 0


def _beside(row: Cells) -> tuple[Turn, ...]:
    """Return the system prompt and the earlier turns that stand in columns of their own."""
    system = row.optional(*SYSTEM)
    return (*((Turn("system", system),) if system.strip() else ()), *_history(row))


def _history(row: Cells) -> tuple[Turn, ...]:
    """Read LLaMA-Factory's `history`: pairs of a question and its answer, the oldest first."""
    value = parsed(row.values.get("history"))
    if not isinstance(value, list | dict) and not row.optional("history"):
        return ()
    row.take("history")
    if is_turn(value):
        return turns_in(value, "history", row)
    turns: list[Turn] = []
    for pair in value if isinstance(value, list) else [value]:
        pair, mark = _of_object(Cells(pair, row), row) if isinstance(pair, dict) else (pair, None)
        said = pair if isinstance(pair, list | tuple) else ()
        if len(said) != 2 or any(isinstance(side, list | dict) for side in said):
            raise Unfit("history is no list of pairs", 'Write history as [["question", "answer"], …], oldest first.')
        asked, told = (row.written(side, "history") for side in said)
        turns += [Turn("user", asked), Turn("assistant", told, mark=mark)]
    return tuple(turns)


def _of_object(pair: Cells, row: Cells) -> tuple[list[Any] | None, bool | None]:
    """Return question and answer of an object in `history`, and its mark; what else it holds stays unread."""
    names = next((names for names in PAST if set(names) <= pair.values.keys()), None)
    said = [pair.take(name) for name in names] if names else None
    mark = mark_of(pair)
    row.turns += pair.unread.items()
    return said, mark


def headed(row: Cells, turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Put what stands in columns of their own in front of turns; a system turn among them wins over the column."""
    before = _beside(row)
    own = turns[0].content.strip() if turns and turns[0].role == "system" else ""
    if before and before[0].role == "system" and own:
        if own != before[0].content.strip():
            row.remarks.append(("two-system-prompts", ""))
        before = before[1:]
    if not own:
        return (*before, *(turns[1:] if before and turns and turns[0].role == "system" else turns))
    return (turns[0], *before, *turns[1:])
