"""Conversations: what is asked, answered, taken back and dropped."""

import pytest
from pydantic import ValidationError

from playground.messages import Conversation, Message


def roles(conversation: Conversation) -> str:
    return "".join(message.role[0] for message in conversation.messages)


def test_a_conversation_grows_without_changing() -> None:
    empty = Conversation.start()
    asked = empty.ask("q")
    assert (roles(empty), roles(asked), roles(asked.answer("a").ask("r"))) == ("", "u", "uau")
    assert roles(Conversation.start("  ")) == ""
    assert Conversation.start("be brief").messages == (Message(role="system", content="be brief"),)


def test_undo_takes_the_last_question_and_its_answer() -> None:
    two = Conversation.start("s").ask("1").answer("a").ask("2").answer("b")
    assert roles(two.undo()) == "sua"
    assert roles(two.undo().undo()) == "s"
    assert two.undo().undo().undo() == Conversation.start("s")
    assert roles(Conversation().undo()) == ""


def test_the_oldest_turn_goes_and_the_system_message_stays() -> None:
    three = Conversation.start("s").ask("1").answer("a").ask("2").answer("b").ask("3")
    shorter = three.without_oldest_turn()
    assert shorter is not None
    assert [message.content for message in shorter.messages] == ["s", "2", "b", "3"]
    last = shorter.without_oldest_turn()
    assert last is not None
    assert [message.content for message in last.messages] == ["s", "3"]
    assert last.without_oldest_turn() is None


def test_other_roles_and_extra_fields_are_refused() -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({"role": "tool", "content": "x"})
    with pytest.raises(ValidationError):
        Message.model_validate({"role": "user", "content": "x", "name": "y"})
