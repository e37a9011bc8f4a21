"""What is said: a message, and the conversation that a pane keeps."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant"]


class Message(BaseModel):
    """One turn; content is plain text, never markup for a template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str


class Conversation(BaseModel):
    """The turns one pane has seen, oldest first; a system message can only be the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: tuple[Message, ...] = ()

    @classmethod
    def start(cls, system: str = "") -> "Conversation":
        """An empty conversation, or one that begins with a system prompt."""
        return cls(messages=(Message(role="system", content=system),) if system.strip() else ())

    def ask(self, text: str) -> "Conversation":
        """The same conversation with one more question."""
        return Conversation(messages=(*self.messages, Message(role="user", content=text)))

    def answer(self, text: str) -> "Conversation":
        """The same conversation with one more answer."""
        return Conversation(messages=(*self.messages, Message(role="assistant", content=text)))

    def undo(self) -> "Conversation":
        """Without the last question and what came after it."""
        users = [index for index, message in enumerate(self.messages) if message.role == "user"]
        return Conversation(messages=self.messages[: users[-1]]) if users else self

    def without_oldest_turn(self) -> "Conversation | None":
        """Without its oldest question and answer; None when only the last question is left to keep."""
        users = [index for index, message in enumerate(self.messages) if message.role == "user"]
        if len(users) < 2:
            return None
        return Conversation(messages=self.messages[: users[0]] + self.messages[users[1] :])
