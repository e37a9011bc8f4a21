"""Whatever pieces the bytes come in: whole characters, and nothing of a stop string or after it."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from playground.answer_text import AnswerText

FEW = st.text(alphabet="ab\n", max_size=24)
ANY = st.text(max_size=40) | st.text(alphabet="안녕ㅎ한글👩‍👧🎉 a", max_size=40)


def cut(whole: bytes, at: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(whole), *(place % (len(whole) + 1) for place in at)})
    return [whole[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]


@given(ANY, st.lists(st.integers(0, 200)))
@example("한", [1, 2])
def test_pieces_add_up_to_the_text_in_whole_characters(text: str, at: list[int]) -> None:
    decoder, shown = AnswerText(), ""
    for piece in cut(text.encode("utf-8", "surrogatepass") if text.isascii() else text.encode(errors="replace"), at):
        shown += decoder.feed(piece)
        assert text.encode(errors="replace").decode().startswith(shown)
    assert shown == text.encode(errors="replace").decode()


@given(st.binary(max_size=40), st.lists(st.integers(0, 200)))
def test_broken_bytes_read_the_same_in_any_pieces(raw: bytes, at: list[int]) -> None:
    decoder = AnswerText()
    shown = "".join(decoder.feed(piece) for piece in cut(raw, at))
    whole = raw.decode("utf-8", "replace")
    assert whole in {shown, shown + "\ufffd"}  # an unfinished character at the end is never shown


def oracle(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Read character by character; the first stop string that is complete ends the text where it began."""
    for end in range(1, len(text) + 1):
        complete = [end - len(stop) for stop in stops if stop and text[:end].endswith(stop)]
        if complete:
            return text[: min(complete)], True
    return text, False


@given(FEW, st.lists(st.text(alphabet="ab\n", max_size=4), max_size=3), st.lists(st.integers(0, 100)))
@example("abc", ["abc", "b"], [])
@example("aaab", ["aab"], [1, 2, 3])
def test_any_stops_in_any_pieces_equal_the_oracle(text: str, stops: list[str], at: list[int]) -> None:
    stopper, shown = AnswerText(stops), ""
    wanted, stopped = oracle(text, stops)
    for piece in cut(text.encode(), at):
        shown += stopper.feed(piece)
        assert wanted.startswith(shown)  # never a stop string, a part of one that comes, or anything after it
    assert stopper.stopped == stopped
    shown += stopper.flush()
    assert shown == wanted


def test_what_can_begin_no_stop_is_shown_at_once() -> None:
    stopper = AnswerText(["### 질문:"])
    assert stopper.feed("답 ##".encode()) == "답 "
    assert stopper.feed("## 질".encode()) == "#"  # "### 질" may still become one
    assert stopper.feed("감".encode()) == "### 질감"


@pytest.mark.parametrize("stops", [(), ("",), ("", "x")])
def test_empty_stops_hold_nothing_back(stops: tuple[str, ...]) -> None:
    stopper = AnswerText(stops)
    assert stopper.feed(b"abc") == "abc"
    assert not stopper.stopped
    assert AnswerText(("x",)).feed(b"") == ""


def test_after_a_stop_nothing_is_shown() -> None:
    stopper = AnswerText(("x",))
    assert stopper.feed(b"axb") == "a"
    assert stopper.feed(b"more") == ""
    assert stopper.flush() == ""
