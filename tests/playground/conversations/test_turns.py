"""A session's conversation: shared questions, each variant's own answers."""

from playground.conversations.turns import Chat
from playground.events import Delta, Event, Failed, Progress, Started

from .told import finished, told


def spoken(chat: Chat, variant: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in chat.messages(variant, "")]


def test_each_variant_keeps_its_own_answers() -> None:
    chat = Chat().ask("one", ["a", "b"]).hear([finished("a", "A1"), finished("b", "B1")]).ask("two", ["a", "b"])
    assert spoken(chat, "a") == [("user", "one"), ("assistant", "A1"), ("user", "two")]
    assert spoken(chat, "b") == [("user", "one"), ("assistant", "B1"), ("user", "two")]


def test_a_variant_that_joins_later_knows_only_what_it_heard() -> None:
    chat = Chat().ask("one", ["a"]).hear([finished("a", "A1")]).ask("two", ["a", "b"])
    assert spoken(chat, "b") == [("user", "two")]
    assert chat.missed_by("b") == 1


def test_a_variant_that_left_and_came_back_has_its_answers() -> None:
    chat = Chat().ask("one", ["a", "b"]).hear([finished("a", "A1"), finished("b", "B1")])
    chat = chat.ask("two", ["a"]).hear([finished("a", "A2")]).ask("three", ["a", "b"])
    assert spoken(chat, "b") == [("user", "one"), ("assistant", "B1"), ("user", "three")]


def test_an_answer_that_never_came_leaves_no_trace_in_the_prompt() -> None:
    chat = Chat().ask("one", ["a"]).hear([Failed(variant="a", message="no")]).ask("two", ["a"])
    assert spoken(chat, "a") == [("user", "two")]


def test_the_system_prompt_comes_first() -> None:
    assert [m.role for m in Chat().ask("one", ["a"]).messages("a", "Be brief.")] == ["system", "user"]


def test_an_answer_grows_with_its_events() -> None:
    started = Started(variant="a", prompt="p", prompt_tokens=1, seed=1, dtype="bf16", device="cpu")
    events: list[Event] = [
        Progress(variant="a", step="loading"),
        started,
        Delta(variant="a", text="He"),
        Delta(variant="a", text="y"),
    ]
    answer = Chat().ask("one", ["a"]).hear(events).turns[0].answers["a"]
    assert (answer.text, answer.end, answer.started) == ("Hey", None, started)


def test_a_failure_keeps_what_was_said() -> None:
    chat = Chat().ask("one", ["a"]).hear([Delta(variant="a", text="He"), Failed(variant="a", message="gone")])
    assert chat.turns[0].answers["a"].text == "He"


def test_undo_gives_the_question_back() -> None:
    chat, question = Chat().ask("one", ["a"]).ask("two", ["a"]).undo()
    assert (question, [turn.question for turn in chat.turns]) == ("two", ["one"])
    assert Chat().undo() == (Chat(), "")


def questions(chat: Chat) -> list[str]:
    return [turn.question for turn in chat.turns]


def test_what_was_taken_back_or_asked_otherwise_is_still_there() -> None:
    chat = told(("one", "1"), ("two", "2"), ("three", "3"))
    second = chat.turns[1]
    other = chat.grown(second.again(question="two, otherwise", answers={}))
    assert questions(other) == ["one", "two, otherwise"]
    assert [turn.question for turn in other.children(second.parent)] == ["two", "two, otherwise"]
    back = other.beside(other.turns[-1], -1)
    assert questions(back) == ["one", "two", "three"]  # down to where it went on
    assert back.beside(back.turns[1], 1) == other
    assert len(other.tree) == 4


def test_a_first_question_can_be_asked_otherwise_too() -> None:
    chat = told(("one", "1"), ("two", "2"))
    other = chat.grown(chat.turns[0].again(question="uno"))
    assert questions(other) == ["uno"]
    assert questions(other.beside(other.turns[0], 1)) == ["one", "two"]
    assert (other.id, other.title) == (chat.id, "one")


def test_after_undo_one_can_go_on_again() -> None:
    chat = told(("one", "1"), ("two", "2"))
    undone, _ = chat.undo()
    assert undone.onward() == chat
    empty, _ = undone.undo()
    assert empty.turns == ()
    assert empty.onward() == chat


def test_a_tree_that_bites_its_tail_ends() -> None:
    chat = told(("one", "1"), ("two", "2"))
    first, second = chat.turns
    ring = chat.with_turn(first.model_copy(update={"parent": second.id}))
    assert len(ring.turns) == 2
    assert ring.onward().leaf


def test_half_signs_do_no_harm() -> None:
    assert Chat().ask("\ud800?", ["a"]).turns[-1].question == "\ufffd?"
