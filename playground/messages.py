"""Messages, and the conversation that a pane keeps."""

from typing import Literal

from playground.values import Value

Role = Literal["system", "user", "assistant"]


class Message(Value):
    """One turn; content is plain text, never markup for a template."""

    role: Role
    content: str
    reasoning_content: str | None = None
    """What an assistant thought before it said this: apart from it, without tags."""


class Conversation(Value):
    """The turns one pane has seen, oldest first; a system message can only be the first."""

    messages: tuple[Message, ...] = ()

    @classmethod
    def start(cls, system: str = "") -> "Conversation":
        """Return an empty conversation, or one that begins with a system prompt."""
        return cls(messages=(Message(role="system", content=system),) if system.strip() else ())

    def ask(self, text: str) -> "Conversation":
        """Return the conversation with one more question."""
        return Conversation(messages=(*self.messages, Message(role="user", content=text)))

    def answer(self, text: str, reasoning: str = "") -> "Conversation":
        """Return the conversation with one more answer, and what was thought before it."""
        message = Message(role="assistant", content=text, reasoning_content=reasoning or None)
        return Conversation(messages=(*self.messages, message))

    def undo(self) -> "Conversation":
        """Return the conversation without its last question and what came after it."""
        users = [index for index, message in enumerate(self.messages) if message.role == "user"]
        return Conversation(messages=self.messages[: users[-1]]) if users else self

    def without_oldest_turn(self) -> "Conversation | None":
        """Return the conversation without its oldest question and answer; None where only the last question is left."""
        users = [index for index, message in enumerate(self.messages) if message.role == "user"]
        if len(users) < 2:
            return None
        return Conversation(messages=self.messages[: users[0]] + self.messages[users[1] :])
