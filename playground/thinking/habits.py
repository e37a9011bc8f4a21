"""What a chat template does about thinking, found in its text and by having it render a conversation of sentinels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from playground import template
from playground.allowance import allowed
from playground.errors import ThinkingError
from playground.thinking.asked import EFFORTS, Effort, Thinking
from playground.thinking.tags import Tags, common, named_in
from playground.traits import IN_CODE, traits_of
from playground.wording import worded

THOUGHT, ANSWER, OTHER = "zqTHOUGHTqz", "zqANSWERqz", "zqOTHERqz"
ASKED = {"role": "user", "content": "zqASKEDqz"}
FIELDS = ("reasoning_content", "reasoning", "thinking", "thought")
"""Fields of a message in which templates look for its thought, in order of preference."""
SWITCH = re.compile(r"think|reason", re.IGNORECASE)
NEGATIVE = re.compile(r"^(no|not|disable|skip|without|hide)_", re.IGNORECASE)
USUAL = ("enable_thinking", "thinking")
"""The names under which most templates have their switch."""
NONE = "none"
EFFORT = re.compile(r"effort|strength", re.IGNORECASE)
TAG = r"[<\[◁][^\s<>\[\]◁▷]+[>\]▷]"
OPENING = re.compile(rf"{TAG}\s*$")


@dataclass(frozen=True)
class Habits:
    """A template's own way with thoughts. `field`: the message's field it reads a thought from, or `parts`."""

    tags: tuple[Tags, ...] = ()
    """Those it knows; none where it says nothing of thoughts."""
    switch: str | None = None
    """The variable that turns thinking on and off."""
    effort: str | None = None
    """The variable that says how hard to think."""
    efforts: tuple[str, ...] = ()
    budget: str | None = None
    field: str | None = None
    opens: bool = False
    """Whether its prompts end inside a thought, by its own default."""
    default: bool | None = None
    """Whether it thinks where nobody says so; None where it leaves that to the model, or does not tell."""

    @property
    def thinks(self) -> bool:
        """Whether a question can be thought about, or not, as wanted."""
        return bool(self.tags or self.switch or self.effort)

    @property
    def families(self) -> tuple[Tags, ...]:
        """The tags to look for in an answer."""
        return self.tags or common()

    def variables(self, wanted: Thinking) -> dict[str, Any]:
        """Return what the template is given, so that it thinks as wanted."""
        given: dict[str, Any] = {}
        if self.budget and wanted.budget is not None:
            given[self.budget] = wanted.budget
        on = wanted.wanted
        if self.switch and (on or wanted.mode == "off"):
            given[self.switch] = on is not bool(NEGATIVE.match(self.switch))
        if self.effort and wanted.mode == "off" and NONE in self.efforts:
            given[self.effort] = NONE
        elif self.effort and on and (wanted.effort or not self.switch):
            given[self.effort] = self._nearest(wanted.effort or "medium")
        return given

    def _nearest(self, effort: Effort) -> str:
        """Return the template's own word for an effort: the next higher one, else the highest it knows."""
        known: list[str] = [name for name in EFFORTS if name in self.efforts]
        higher = [name for name in EFFORTS[EFFORTS.index(effort) :] if name in self.efforts]
        return [*higher, *known[-1:], effort][0]

    def meant(self, text: str, wanted: Thinking, options: Mapping[str, Any]) -> Thinking:
        """Read a switch under another template's name: clients send one name to every model. It wins over all else."""
        strange = options.keys() & set(USUAL) - template.words(text)
        said = [options[name] for name in strange if isinstance(options[name], bool)]
        return wanted.model_copy(update={"mode": "on" if said[0] else "off"}) if said and self.thinks else wanted

    def check(self, variant: str, wanted: Thinking) -> None:
        """Refuse to think for a model whose template knows nothing of it, where that is an error."""
        if wanted.strict and wanted.wanted and not self.thinks:
            raise ThinkingError(
                worded("habits.cannot_told_think", variant=variant),
            )

    def opened(self, tail: str) -> Tags | None:
        """Return the tags of the thought that is open at the end of what begins an answer; None where none is."""
        return next((tags for tags in self.families if tags.open_at_end(tail)), None)

    def opened_by(self, prompt: str) -> Tags | None:
        """Return the tags of the thought that a whole prompt ends with the opening of."""
        return next((tags for tags in self.families if tags.opened_by(prompt)), None)

    def finished(self, tail: str, wanted: Thinking) -> str:
        """Return what must follow the beginning of an answer, so that it is thought about as wanted.

        Nothing where the template has done it: only what it has no switch for is written for it.
        """
        open_tags = self.opened(tail)
        if wanted.mode == "off":
            if open_tags is not None:
                return open_tags.closing
            done = self.switch or NONE in self.efforts or not self.tags
            return "" if done or tail.rstrip().endswith(self.tags[0].answer) else self.tags[0].nothing
        return self.tags[0].opening if self._must_open(open_tags, wanted) else ""

    def _must_open(self, opened: Tags | None, wanted: Thinking) -> bool:
        return wanted.mode == "on" and opened is None and bool(self.tags) and not (self.switch or self.effort)


@lru_cache(maxsize=64)
@allowed(seconds=template.PROBE_S)
def habits(text: str) -> Habits:
    """Return the habits of a chat template; a broken one has none, and says so where it is rendered."""
    try:
        words = template.words(text)
    except template.FAULTS:
        return Habits()
    field = next((name for name in (*FIELDS, "parts") if _reads(text, name, words)), None)
    tags = named_in(text) or (_spelled(text, field) if field else ())
    variables = [word for word in sorted(words) if word.isidentifier() and word not in FIELDS[:1]]
    switch = _switch(text, variables)
    effort, efforts = _effort(text, variables, words)
    usual = _prompt(text, {})
    begun = tail(usual, _prompt(text, {}, opened=False), ASKED["content"])
    opens = any(one.open_at_end(begun) for one in tags)
    budget = next((name for name in variables if "budget" in name and SWITCH.search(name)), None)
    known = Habits(tags, switch, effort, efforts, budget, field, opens)
    on, off = (_prompt(text, known.variables(wanted)) for wanted in (Thinking(mode="on"), Thinking(mode="off")))
    default = True if opens else None if on == off else False if usual == off else True if usual == on else None
    return Habits(tags, switch, effort, efforts, budget, field, opens, default)


def turn(message: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return a message as a template wants it: its thought in the field that it reads, if it reads any."""
    said = {name: value for name, value in message.items() if name != FIELDS[0]}
    thought = message.get(FIELDS[0])
    field = habits(text).field if thought else None
    return said if field is None else _with(said, field, str(thought))


def _with(said: dict[str, Any], field: str, thought: str) -> dict[str, Any]:
    if field != "parts":
        return {**said, field: thought}
    inner = [{"type": "text", "text": thought}]
    return {**said, "content": [{"type": "thinking", "thinking": inner}, {"type": "text", "text": said["content"]}]}


def _reads(text: str, field: str, words: frozenset[str]) -> bool:
    """Return whether a template writes the thought of a last answer out of a field."""
    if (field if field != "parts" else "thinking") not in words:
        return False
    answer = _with({"role": "assistant", "content": ANSWER}, field, THOUGHT)
    said = _rendered(text, [ASKED, answer], opened=False)
    return THOUGHT in said and ANSWER in said and not (field == "parts" and IN_CODE.search(said))


def _spelled(text: str, field: str) -> tuple[Tags, ...]:
    """Return tags that no table has, as a template writes them around a thought."""
    answer = _with({"role": "assistant", "content": ANSWER}, field, THOUGHT)
    before, _, after = _rendered(text, [ASKED, answer], opened=False).partition(THOUGHT)
    opening, closing = OPENING.search(before), after.partition(ANSWER)[0].strip()
    if opening is None or not re.fullmatch(TAG, closing):
        return ()
    return (Tags(thought=(opening[0].strip(),), answer=(closing,)),)


def _switch(text: str, variables: Sequence[str]) -> str | None:
    """Return the variable whose being true or false changes a prompt."""
    for name in variables:
        if SWITCH.search(name) and not EFFORT.search(name) and "budget" not in name:
            on, off = (_prompt(text, {name: value}) for value in (True, False))
            if on and off and on != off:
                return name
    return None


def _effort(text: str, variables: Sequence[str], words: frozenset[str]) -> tuple[str | None, tuple[str, ...]]:
    """Return the variable that says how hard to think, and its values: those that stand in the template."""
    for name in variables:
        if EFFORT.search(name) and _prompt(text, {name: "high"}) != _prompt(text, {name: "low"}):
            named = tuple(value for value in (NONE, *EFFORTS) if value in words)
            printed = OTHER in _prompt(text, {name: OTHER})
            return name, tuple(dict.fromkeys([*named, *(("low", "medium", "high") if printed else ())]))
    return None, ()


def tail(prompt: str, closed: str, question: str) -> str:
    """Return what begins the answer in a prompt: what it has beyond the same turns `closed`, or after the question."""
    if prompt.startswith(closed) and prompt != closed:
        return prompt.removeprefix(closed)
    said = question.strip()
    return prompt[prompt.rfind(said) + len(said) :]


def _prompt(text: str, variables: Mapping[str, Any], opened: bool = True) -> str:
    return _rendered(text, [ASKED], variables, opened)


def _rendered(
    text: str, turns: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None, opened: bool = True
) -> str:
    """Return what a template makes of some turns; empty where it refuses them."""
    try:
        turns = [traits_of(text, {}).given(dict(row)) for row in turns]
        return template.rendered(text, turns, opened, {"bos_token": "", "eos_token": "", **(variables or {})})
    except template.FAULTS:
        return ""
