"""What was asked and heard: a tree of turns that only grows, so that nothing said is ever lost.

Questions are shared; each variant keeps its own answers to those it heard. To edit, to ask again and to go another way
all make one more child of the same parent, and `leaf` says which way through the tree is in view. A variant that joins
later begins with the next question: it is never given answers that others gave, and one that was taken out of the
panes and comes back still has its own.
"""

import time
import uuid
from collections.abc import Sequence
from functools import cached_property

from pydantic import Field

from playground.escape import HALVES
from playground.events import Delta, Event, Failed, Finished, Progress, Started
from playground.messages import Conversation, Message
from playground.presets import Sampling
from playground.thinking.asked import Thinking
from playground.values import Value

LONGEST_TITLE = 80


def fresh_id() -> str:
    """Return a name that nobody guesses."""
    return uuid.uuid4().hex


class Answer(Value):
    """One variant's answer, as far as it has come."""

    text: str = ""
    reasoning: str = ""
    progress: Progress | None = None
    started: Started | None = None
    end: Finished | Failed | None = None
    before: str = ""
    """What stood there already when the model went on from it: the beginning of `text`."""
    edited: bool = False
    """Whether a person wrote or changed it: its numbers are those of the answer before."""
    made: int = 0
    """Tokens so far, while it is under way and where they are counted; the `first` ones came at `since`."""
    first: int = 0
    since: float = 0.0
    lost: bool = False
    """Whether it has no end and is not under way: its program was ended."""

    def after(self, event: Event) -> "Answer":
        """Return the answer as it is after this event."""
        if isinstance(event, Progress):
            return self.model_copy(update={"progress": event})
        if isinstance(event, Started):
            return self.model_copy(update={"started": event})
        if isinstance(event, Delta):
            said = {"text": self.text + event.text, "reasoning": self.reasoning + event.reasoning}
            begun = {} if self.since or not event.made else {"first": event.made, "since": time.time()}
            return self.model_copy(update={**said, **begun, "made": event.made})
        whole = {
            "text": self.before + event.text if event.text else self.text,
            "reasoning": event.reasoning or self.reasoning,
        }
        return self.model_copy(update=whole | {"end": event})

    @property
    def settled(self) -> bool:
        """Return whether nothing more comes."""
        return self.end is not None or self.edited or self.lost

    def without_prompt(self) -> "Answer":
        """Return the answer without the text that the model received, which repeats the whole conversation."""
        if self.started is None or not self.started.prompt:
            return self
        return self.model_copy(update={"started": self.started.model_copy(update={"prompt": ""})})


class Asked(Value):
    """What answers come from beside the conversation."""

    system: str = ""
    sampling: Sampling = Sampling()
    thinking: Thinking = Thinking()


class Turn(Value):
    """A question, and the answers of those variants that heard it; `parent` is the turn before, empty for a first."""

    id: str = Field(default_factory=fresh_id)
    parent: str = ""
    question: str
    answers: dict[str, Answer]
    asked: Asked = Asked()
    own: dict[str, Asked] = Field(default_factory=dict)
    """Of those variants that were asked otherwise than all: with a system prompt or a sampling of their own."""
    at: float = Field(default_factory=time.time)

    def hear(self, events: Sequence[Event]) -> "Turn":
        """Add what these events say."""
        answers = dict(self.answers)
        for event in events:
            answers[event.variant] = answers[event.variant].after(event)
        return self.model_copy(update={"answers": answers})

    def asked_of(self, variant: str) -> Asked:
        """Return what one variant's answer comes from beside the conversation."""
        return self.own.get(variant, self.asked)

    def again(self, **changes: object) -> "Turn":
        """Return another turn in the same place, with these fields changed."""
        return self.model_copy(update={"id": fresh_id(), "at": time.time()} | changes)

    def without_prompts(self) -> "Turn":
        """Return the turn as it is kept once another follows."""
        return self.model_copy(update={"answers": {n: answer.without_prompt() for n, answer in self.answers.items()}})

    @property
    def settled(self) -> bool:
        """Return whether no answer is still to come."""
        return all(answer.settled for answer in self.answers.values())


class Chat(Value):
    """A conversation. Its `turns` are those on the way to the leaf, oldest first; `tree` holds all there ever were."""

    id: str = ""
    """Empty until something is asked."""
    title: str = ""
    tree: dict[str, Turn] = Field(default_factory=dict)
    leaf: str = ""

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The turns in view; a parent that is missing ends the way."""
        way: list[Turn] = []
        turn = self.tree.get(self.leaf)
        while turn is not None and len(way) < len(self.tree):
            way.append(turn)
            turn = self.tree.get(turn.parent)
        return tuple(reversed(way))

    @property
    def last(self) -> Turn | None:
        """Return the last turn in view."""
        return self.tree.get(self.leaf)

    def ask(self, question: str, variants: Sequence[str], asked: Asked | None = None) -> "Chat":
        """Add a question, put to these variants, behind what is in view."""
        answers = {name: Answer() for name in variants}
        question = question.translate(HALVES)
        return self.grown(Turn(parent=self.leaf, question=question, answers=answers, asked=asked or Asked()))

    def grown(self, turn: Turn) -> "Chat":
        """Add a turn, and look at it."""
        tree = dict(self.tree)
        if before := tree.get(turn.parent):
            tree[turn.parent] = before.without_prompts()
        named = {} if self.id else {"id": fresh_id(), "title": title_of(turn.question)}
        return self._with(**named, tree=tree | {turn.id: turn}, leaf=turn.id)

    def with_turn(self, turn: Turn) -> "Chat":
        """Return the conversation with this turn as it is now."""
        return self._with(tree=self.tree | {turn.id: turn})

    def hear(self, events: Sequence[Event]) -> "Chat":
        """Add what these events say about the last question."""
        return self.with_turn(self.turns[-1].hear(events))

    def at(self, leaf: str) -> "Chat":
        """Return the conversation with another way in view: to a turn of the tree, or empty for before the first."""
        return self._with(leaf=leaf)

    def unasked(self) -> "Chat":
        """Return the conversation without its last question, which nobody was asked after all."""
        last = self.tree[self.leaf]
        tree = {key: turn for key, turn in self.tree.items() if key != last.id}
        return self._with(tree=tree, leaf=last.parent) if tree else Chat()

    def undo(self) -> tuple["Chat", str]:
        """Go back before the last turn; return what is then in view, and the question. The turn stays in the tree."""
        last = self.last
        return (self.at(last.parent), last.question) if last else (self, "")

    def children(self, parent: str) -> list[Turn]:
        """Return the turns that follow a turn, oldest first; of the empty name, the first questions."""
        return [turn for turn in self.tree.values() if turn.parent == parent]

    def beside(self, turn: Turn, step: int) -> "Chat":
        """Look at the turn before or behind this one among those in its place, as far down as its newest way goes."""
        places = self.children(turn.parent)
        where = [one.id for one in places].index(turn.id) + step
        return self.at(self._newest(places[where % len(places)].id))

    def onward(self) -> "Chat":
        """Look at what follows the last turn in view, where something was taken back."""
        return self.at(self._newest(self.leaf))

    def _newest(self, leaf: str) -> str:
        seen = {leaf}
        while (below := self.children(leaf)) and below[-1].id not in seen:
            leaf = below[-1].id
            seen.add(leaf)
        return leaf

    def _with(self, **changes: object) -> "Chat":
        """Return a copy without what `turns` remembers, which `model_copy` would take along."""
        return Chat.model_validate({name: getattr(self, name) for name in Chat.model_fields} | changes)

    def heard_by(self, variant: str) -> list[Turn]:
        """Return the turns in view that this variant took part in."""
        return [turn for turn in self.turns if variant in turn.answers]

    def missed_by(self, variant: str) -> int:
        """Return how many questions this variant was not asked."""
        return len(self.turns) - len(self.heard_by(variant))

    def messages(self, variant: str, system: str) -> tuple[Message, ...]:
        """Return the prompt's turns for this variant: answers that never came leave no trace but the last question.

        The last answer is among them where the model goes on from its beginning.
        """
        conversation = Conversation.start(system)
        heard = self.heard_by(variant)
        for turn in heard[:-1]:
            if said := turn.answers[variant].text:
                conversation = conversation.ask(turn.question).answer(said, turn.answers[variant].reasoning)
        if not heard:
            return conversation.messages
        conversation, last = conversation.ask(heard[-1].question), heard[-1].answers[variant]
        return (conversation.answer(last.before, last.reasoning) if last.before else conversation).messages


def title_of(question: str) -> str:
    """Return what a conversation is called that begins with this question."""
    line = " ".join(question.split())
    return line if len(line) <= LONGEST_TITLE else f"{line[: LONGEST_TITLE - 1].rstrip()}…"
