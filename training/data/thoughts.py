"""Thoughts in training data: told from the answer that they stand before, and put where a model's prompts have them."""

from collections.abc import Sequence

from playground.thinking.habits import Habits
from playground.thinking.splitter import split
from playground.thinking.tags import Tags, common, marks
from training.data.examples import Turn


def parted(turn: Turn, known: Habits) -> Turn:
    """Return an answer with its thought apart, whether a field had it or tags in its text, of whatever family.

    Under a template that knows no thoughts tags are text like any other.
    """
    if turn.role != "assistant":
        return turn
    if not known.tags:
        return turn if known.field else turn._replace(thought="")
    families = (*known.tags, *common())
    begun = known.tags[0] if known.opens and _begins_within(turn.content) else None
    inside, unfinished = split(turn.content, families, begun)
    own = bare(turn.thought, families)
    if unfinished or not (begun or inside.thought or _has(turn.content, families)):
        return turn._replace(thought=own)
    thoughts = [own, inside.thought] if inside.thought not in own else [own]
    return turn._replace(content=inside.text, thought="\n\n".join(filter(None, thoughts)))


def bare(thought: str, families: Sequence[Tags]) -> str:
    """Return a thought without the tags that its own field may have around it."""
    inside, unfinished = split(thought, families)
    return inside.thought if unfinished or (inside.thought and not inside.text.strip()) else thought.strip()


def wrong_tags(turn: Turn, opens: bool = False) -> bool:
    """Return whether tags of a thought or the thought stand twice, a tag is missing, or nothing follows them.

    `opens`: the template has opened the thought already, so that an answer may begin within.
    """
    if turn.role != "assistant":
        return False
    inside, unfinished = split(turn.content, common())
    begins = _has(turn.content, common())
    if turn.thought and (begins or _any(turn.thought)):
        return True
    if not begins:
        return _closes(turn.content) and not (
            opens and _begins_within(turn.content) and not ends_in_thought(turn.content)
        )
    again = _has(_behind_opening(turn.content), common()) or inside.text.lstrip().startswith(marks(common()))
    return unfinished or again or _any(inside.thought)


def ends_in_thought(text: str) -> bool:
    """Return whether a thought is closed and no answer follows it."""
    return text.rstrip().endswith(tuple(mark for tags in common() for mark in tags.answer))


def thought_alone(text: str) -> bool:
    """Return whether a text is one thought in its tags and no answer."""
    return _has(text, common()) and not split(text, common())[0].text.strip() and ends_in_thought(text)


def _has(text: str, families: Sequence[Tags]) -> bool:
    return text.lstrip().startswith(tuple(mark for tags in families for mark in tags.thought))


def _behind_opening(text: str) -> str:
    """Return what follows the mark that a text begins with."""
    text = text.lstrip()
    return next((text.removeprefix(mark) for tags in common() for mark in tags.thought if text.startswith(mark)), text)


def _closes(text: str) -> bool:
    return any(mark in text for tags in common() for mark in tags.answer)


def _begins_within(text: str) -> bool:
    """Return whether a text closes a thought that it has not opened."""
    closings = [text.find(mark) for tags in common() for mark in tags.answer if mark in text]
    return bool(closings) and not any(mark in text[: min(closings)] for tags in common() for mark in tags.thought)


def _any(text: str) -> bool:
    return any(mark in text for mark in marks(common()))


def written(turn: Turn, opened: Tags | None, tags: Tags | None) -> str:
    """Return a thought and its answer as they follow a prompt; `opened`: the tags of the thought it ends within."""
    if opened is not None:
        return turn.thought.strip() + opened.closing + turn.content
    if tags is None:
        return turn.content
    return tags.around(turn.thought, turn.content) if turn.thought else tags.empty + turn.content
