"""Conversations as files: the same tree comes back, and what others wrote stays text."""

import json
from pathlib import Path

import pytest

from playground.conversations import exports
from playground.conversations.turns import Asked, Chat
from playground.errors import ConfigError, SetupError
from playground.presets import Sampling
from playground.ui import shared_page
from training.data.files import read
from training.data.formats import detect

from .told import told, whole

ONE = '{"form": "madang-conversation", "title": "x", "leaf": "", "turns": [{%s}]}'
HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> </data><style>*{display:none}</style>"


def branched() -> Chat:
    chat = told(("one <b>", "1"), ("two", "2 # no heading"))
    first = chat.turns[0].model_copy(update={"asked": Asked(system="Be brief.", sampling=Sampling(seed=7))})
    chat = chat.with_turn(first)
    return chat.grown(chat.turns[1].again(question="two, otherwise"))


def shape(chat: Chat) -> list[tuple[str, int]]:
    order = ["", *chat.tree]
    return [(turn.question, order.index(turn.parent)) for turn in chat.tree.values()]


def test_json_gives_the_same_tree_back_under_names_of_its_own() -> None:
    chat = branched()
    again = exports.from_json(exports.as_json(chat))
    assert whole(again) == whole(chat)
    assert shape(again) == shape(chat)
    assert [turn.question for turn in again.turns] == ["one <b>", "two, otherwise"]
    assert again.turns[0].asked == chat.turns[0].asked
    assert not set(again.tree) & set(chat.tree)
    assert again.id != chat.id


def test_json_holds_variants_seeds_sampling_and_timings() -> None:
    row = json.loads(exports.as_json(branched()))["turns"][0]
    assert set(row["answers"]) == {"a", "b"}
    assert row["answers"]["a"]["started"]["seed"] == row["asked"]["sampling"]["seed"] == 7
    assert row["answers"]["a"]["end"]["stats"]["first_token_s"] == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"form": "other"}',
        '{"form": "madang-conversation"}',
        '{"form": "madang-conversation", "title": "x", "leaf": "", "turns": {"a": 1}}',
        '{"form": "madang-conversation", "title": "x", "leaf": "gone", "turns": []}',
        ONE % '"id": "a", "question": "q"',
        ONE % '"id": "a", "parent": "b", "question": "q", "answers": {}',
        ONE % '"id": "a", "question": "q", "answers": {}, "more": 1',
    ],
)
def test_what_is_no_conversation_is_said(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        exports.from_json(text)
    assert caught.value.hint


def test_a_ring_of_turns_can_be_brought_in_and_ends() -> None:
    said = json.loads(exports.as_json(told(("one", "1"), ("two", "2"))))
    said["turns"][0]["parent"] = said["turns"][1]["id"]
    assert len(exports.from_json(json.dumps(said)).turns) == 2


def test_markdown_has_every_answer_and_stays_markdown() -> None:
    text = exports.markdown(branched())
    assert "# one \\<b>" in text
    assert "> two, otherwise" in text
    assert "## a" in text
    assert "seed 7" in text


def test_sharegpt_is_one_conversation_a_variant() -> None:
    rows = json.loads(exports.sharegpt(branched()))
    assert [row["model"] for row in rows] == ["a", "b"]
    said = [(turn["from"], turn["value"]) for turn in rows[0]["conversations"]]
    assert said[:3] == [("system", "Be brief."), ("human", "one <b>"), ("gpt", "1")]
    assert len(said) == 5


def test_the_page_to_share_runs_nothing_and_fetches_nothing() -> None:
    page = shared_page.written(told((HOSTILE, HOSTILE), variants=(HOSTILE,)))
    for sign in ("<script", "<img", "</data", "href="):
        assert sign not in page.lower()
    assert page.count("<style>") == 1
    assert "default-src 'none'" in page


def test_a_turn_becomes_a_row_that_training_reads(tmp_path: Path) -> None:
    chat = branched()
    for turn in chat.turns:
        file = exports.add_row(tmp_path, chat, turn, "a")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [len(row["messages"]) for row in rows] == [3, 5]
    assert detect(read(file)) == "messages"


def test_rows_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("in the way", encoding="utf-8")
    chat = branched()
    with pytest.raises(SetupError):
        exports.add_row(tmp_path, chat, chat.turns[0], "a")
