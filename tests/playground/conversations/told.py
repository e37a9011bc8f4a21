"""Conversations to store: made by hand, answered by nobody."""

from playground.conversations.turns import Answer, Chat
from playground.events import Delta, Event, Finished, FinishReason, Started, Stats


def finished(variant: str, text: str, reason: FinishReason = "stop") -> Finished:
    """The end of an answer."""
    stats = Stats(prompt_tokens=1, tokens=1, first_token_s=0.1, tokens_per_s=None, memory_bytes=1, dtype="fake")
    return Finished(variant=variant, reason=reason, text=text, stats=stats)


def started(variant: str, prompt: str = "<|user|>") -> Started:
    """The beginning of an answer."""
    return Started(variant=variant, prompt=prompt, prompt_tokens=1, seed=7, dtype="fake", device="cpu")


def told(*turns: tuple[str, str], variants: tuple[str, ...] = ("a", "b")) -> Chat:
    """A conversation of questions and answers, the same for every variant."""
    chat = Chat()
    for question, said in turns:
        events: list[Event] = []
        for name in variants:
            events += [started(name), Delta(variant=name, text=said), finished(name, said)]
        chat = chat.ask(question, variants).hear(events)
    return chat


def whole(chat: Chat) -> list[tuple[str, dict[str, Answer]]]:
    """The questions and answers of every turn, in view or not."""
    return [(turn.question, turn.answers) for turn in chat.tree.values()]
