"""Thought and answer are told apart, whatever pieces they come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.thinking.splitter import Said, Splitter, split
from playground.thinking.tags import Tags, common, known

THINK = next(tags for tags in known() if "<think>" in tags.thought)
HARMONY = next(tags for tags in known() if tags.anywhere)
COHERE = next(tags for tags in known() if "<|START_THINKING|>" in tags.thought)
TABLE = [
    # text, opened by the prompt, thought, answer, whether it never left its thought
    ("네, 안녕하세요.", None, "", "네, 안녕하세요.", False),
    ("  indented", None, "", "  indented", False),
    ("<think>\n둘에 둘.\n</think>\n\n4입니다.", None, "둘에 둘.", "4입니다.", False),
    ("\n<think>a</think>b", None, "a", "b", False),
    ("둘에 둘.\n</think>\n\n4입니다.", THINK, "둘에 둘.", "4입니다.", False),
    ("<think>\n둘에 둘.</think>4", THINK, "둘에 둘.", "4", False),
    ("<think>\n<think>\na</think>b", THINK, "a", "b", False),
    ("\n</think>\n\nb", THINK, "", "b", False),
    ("it goes on and on", THINK, "it goes on and on", "", True),
    ("<think>it goes on </thin", None, "it goes on </thin", "", True),
    ("The tag <think> opens, </think> closes.", None, "", "The tag <think> opens, </think> closes.", False),
    ("<think>a</think>b <think>c</think>", None, "a", "b <think>c</think>", False),
    ("<think>a</think>\n<think>b</think>\nc", None, "a\n\nb", "c", False),
    ("<thin air", None, "", "<thin air", False),
    ("<think>a < b and b > c\n\nso</think>yes", None, "a < b and b > c\n\nso", "yes", False),
    ("[THINK]a[/THINK]b", None, "a", "b", False),
    ("<thought>\na\n</thought>\nb", None, "a", "b", False),
    ("<think>a</thought>b</think>c", None, "a</thought>b", "c", False),
    ("", THINK, "", "", True),
    (" ", None, "", " ", False),
]
SPOKEN = [
    ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "a", "b"),
    ("<|channel|>final<|message|>b", "", "b"),
    (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"
        "<|start|>assistant<|channel|>final<|message|>c",
        "a\n\nb",
        "c",
    ),
    (
        "<|channel|>commentary<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>"
        "<|start|>assistant<|channel|>final<|message|>c",
        "b",
        "a\n\nc",
    ),
]


@pytest.mark.parametrize(("text", "opened", "thought", "answer", "unfinished"), TABLE)
def test_thought_and_answer(text: str, opened: Tags | None, thought: str, answer: str, unfinished: bool) -> None:
    assert split(text, common(), opened) == (Said(thought, answer), unfinished)


@pytest.mark.parametrize(("text", "thought", "answer"), SPOKEN)
def test_channels(text: str, thought: str, answer: str) -> None:
    assert split(text, (HARMONY,)) == (Said(thought, answer), False)


def test_a_longer_mark_wins_and_is_not_waited_for_at_the_end() -> None:
    said = "<|START_THINKING|>a<|END_THINKING|>"
    assert split(said + "<|START_RESPONSE|>b", (COHERE,)) == (Said("a", "b"), False)
    assert split(said + "b", (COHERE,)) == (Said("a", "b"), False)
    assert split(said, (COHERE,)) == (Said("a", ""), False)


WORDS = [*(mark for tags in known() for mark in (*tags.thought, *tags.answer)), *" \n<>|[/tхi가a", "think", "</", "  "]


@given(
    words=st.lists(st.sampled_from(WORDS), max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=30),
    opened=st.sampled_from([None, *known()]),
    families=st.sampled_from([common(), known(), (HARMONY,), (COHERE,), (THINK,)]),
)
def test_any_pieces_give_the_same(
    words: list[str], cuts: list[int], opened: Tags | None, families: tuple[Tags, ...]
) -> None:
    text = "".join(words)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    splitter, said = Splitter(families, opened), Said()
    for begin, end in zip(places, places[1:], strict=False):
        said += splitter.feed(text[begin:end])
    assert (said + splitter.flush(), splitter.thinking) == split(text, families, opened)


@given(st.text(alphabet="ab \n<think/>가", max_size=40), st.text(alphabet="ab \n<>가", max_size=40))
def test_what_a_model_writes_comes_back(thought: str, answer: str) -> None:
    """A thought and an answer that hold no tags are told apart as they were written, but for white space."""
    if "</think>" in thought or thought.strip().startswith("<think>") or answer.strip().startswith("<"):
        return
    said, unfinished = split(THINK.around(thought, answer), (THINK,))
    assert (said, unfinished) == (Said(thought.strip(), answer.lstrip()), False)
