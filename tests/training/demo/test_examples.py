"""The shipped examples: enough of them, all with the habit, none of the held-out prompts among them."""

import re
from difflib import SequenceMatcher

from training.demo.examples import has_habit, held_out_prompts, train_conversations
from training.demo.train import turns


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.lower()).strip()


def train_prompts() -> list[str]:
    return [message["content"] for chat in train_conversations() for message in chat if message["role"] == "user"]


def train_answers() -> list[str]:
    return [message["content"] for chat in train_conversations() for message in chat if message["role"] == "assistant"]


def test_how_many() -> None:
    assert len(train_conversations()) >= 150
    assert len(held_out_prompts()) == 50


def test_conversations_alternate() -> None:
    for chat in train_conversations():
        assert [message["role"] for message in chat] == ["user", "assistant"] * (len(chat) // 2)


def test_every_answer_has_the_habit_and_is_short() -> None:
    assert [answer for answer in train_answers() if not has_habit(answer)] == []
    assert [answer for answer in train_answers() if len(answer.split()) > 80] == []


def test_nothing_is_asked_twice() -> None:
    prompts = [plain(prompt) for prompt in train_prompts() + held_out_prompts()]
    assert sorted(prompts) == sorted(set(prompts))


def test_no_held_out_prompt_resembles_an_example() -> None:
    """Same words but for one or two would be the same question."""
    near = [
        (held, asked)
        for held in map(plain, held_out_prompts())
        for asked in map(plain, train_prompts())
        if SequenceMatcher(None, held, asked).ratio() > 0.9
    ]
    assert near == []


def test_no_answer_is_a_template_filled_in() -> None:
    points = [line[3:] for answer in train_answers() for line in answer.splitlines() if line[:2] in ("1.", "2.", "3.")]
    assert len(set(points)) == len(points)
    assert len(points) == 3 * len(train_answers())


def test_a_row_is_what_was_said_before_and_one_answer() -> None:
    chat = [{"role": role, "content": str(i)} for i, role in enumerate(["user", "assistant"] * 2)]
    assert turns([chat]) == [
        {"prompt": chat[:1], "completion": [chat[1]]},
        {"prompt": chat[:3], "completion": [chat[3]]},
    ]
