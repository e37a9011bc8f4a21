"""What a session has asked and heard. Questions are shared; each variant keeps its own answers to those it heard.

A variant that joins later begins with the next question: it is never given answers that others gave, and one that was
taken out of the panes and comes back still has its own.
"""

from playground.events import Delta, Event, Failed, Finished, Progress, Started
from playground.messages import Conversation, Message
from playground.values import Value


class Answer(Value):
    """One variant's answer, as far as it has come."""

    text: str = ""
    reasoning: str = ""
    progress: Progress | None = None
    started: Started | None = None
    end: Finished | Failed | None = None

    def after(self, event: Event) -> "Answer":
        """Return the answer as it is after this event."""
        if isinstance(event, Progress):
            return self.model_copy(update={"progress": event})
        if isinstance(event, Started):
            return self.model_copy(update={"started": event})
        if isinstance(event, Delta):
            said = {"text": self.text + event.text, "reasoning": self.reasoning + event.reasoning}
            return self.model_copy(update=said)
        whole = {"text": event.text or self.text, "reasoning": event.reasoning or self.reasoning}
        return self.model_copy(update=whole | {"end": event})


class Turn(Value):
    """A question, and the answers of those variants that heard it."""

    question: str
    answers: dict[str, Answer]


class Chat(Value):
    """A session's conversation, oldest turn first."""

    turns: tuple[Turn, ...] = ()

    def ask(self, question: str, variants: list[str]) -> "Chat":
        """Add a question, put to these variants."""
        turn = Turn(question=question, answers={name: Answer() for name in variants})
        return Chat(turns=(*self.turns, turn))

    def hear(self, events: list[Event]) -> "Chat":
        """Add what these events say about the last question."""
        last = self.turns[-1]
        answers = dict(last.answers)
        for event in events:
            answers[event.variant] = answers[event.variant].after(event)
        return Chat(turns=(*self.turns[:-1], Turn(question=last.question, answers=answers)))

    def undo(self) -> tuple["Chat", str]:
        """Remove the last turn; return the rest, and the question that it held."""
        if not self.turns:
            return self, ""
        return Chat(turns=self.turns[:-1]), self.turns[-1].question

    def heard_by(self, variant: str) -> list[Turn]:
        """Return the turns that this variant took part in."""
        return [turn for turn in self.turns if variant in turn.answers]

    def missed_by(self, variant: str) -> int:
        """Return how many questions this variant was not asked."""
        return len(self.turns) - len(self.heard_by(variant))

    def messages(self, variant: str, system: str) -> tuple[Message, ...]:
        """Return the prompt's turns for this variant: answers that never came leave no trace but the last question."""
        conversation = Conversation.start(system)
        heard = self.heard_by(variant)
        for turn in heard[:-1]:
            if said := turn.answers[variant].text:
                conversation = conversation.ask(turn.question).answer(said, turn.answers[variant].reasoning)
        return conversation.ask(heard[-1].question).messages if heard else conversation.messages
