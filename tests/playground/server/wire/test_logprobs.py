"""Which tokens belong to a text: a stop string's do not, half characters wait, spaces and control tokens fit."""

from math import inf

import pytest

from playground.events import Likely, TokenLogprob
from playground.server.wire import logprobs
from playground.server.wire.logprobs import Aligner


def token(raw: bytes, logprob: float = -1.0) -> TokenLogprob:
    return TokenLogprob(id=1, raw=tuple(raw), logprob=logprob)


def given(*pieces: tuple[str, list[bytes]], stopped: bool = False) -> list[tuple[bytes, int]]:
    placing, out = Aligner(), []
    for text, raws in pieces:
        out += placing.feed(text, [token(raw) for raw in raws])
    out += placing.end(stopped)
    return [(bytes(placed.token.raw), placed.offset) for placed in out]


def test_tokens_come_when_their_text_is_shown() -> None:
    placing = Aligner()
    assert placing.feed("he", [token(b"he"), token(b"llo")]) != []
    assert placing.feed("l", []) == []
    [placed] = placing.feed("lo", [])
    assert (placed.offset, bytes(placed.token.raw)) == (2, b"llo")


@pytest.mark.parametrize(
    ("pieces", "stopped", "wanted"),
    [
        ([("he", [b"he", b" ST", b"OP"])], True, [(b"he", 0)]),
        ([("he S", [b"he", b" ST", b"OP"])], True, [(b"he", 0), (b" ST", 2)]),
        ([("he S", [b"he", b" ST", b"OP"])], False, [(b"he", 0), (b" ST", 2), (b"OP", 5)]),
        (
            [("", [b"\xec\x95"]), ("안녕", [b"\x88", "녕".encode()])],
            True,
            [(b"\xec\x95", 0), (b"\x88", 0), ("녕".encode(), 1)],
        ),
        ([("Hello you", [b" Hello", b" you"])], True, [(b" Hello", 0), (b" you", 5)]),
        ([("Hello you", [b"<s>", b" Hello", b" you"])], True, [(b"<s>", 0), (b" Hello", 0), (b" you", 5)]),
        ([("a", [b"a", b"\xec\x95"])], False, [(b"a", 0), (b"\xec\x95", 1)]),
        ([("he", [b"he", b"\xec\x95"]), ("", [b"\x88"])], True, [(b"he", 0)]),
        ([("a", [b"a\xec"]), ("", [b"\x95\x88"])], True, [(b"a\xec", 0)]),
        ([("\ufffdabc", [b"\xff", b"a", b"b", b"c"])], False, [(b"\xff", 0), (b"a", 1), (b"b", 2), (b"c", 3)]),
        ([("\ufffda", [b"\xff", b"a", b"ST", b"OP"])], True, [(b"\xff", 0), (b"a", 1)]),
        ([("\ufffd\ufffda", [b"\x95", b"\x88", b"a"])], False, [(b"\x95", 0), (b"\x88", 1), (b"a", 2)]),
        ([("", [b"\xec"]), ("\ufffda", [b"a"]), ("b", [b"b"])], False, [(b"\xec", 0), (b"a", 1), (b"b", 2)]),
        ([("", [b"\xec"]), ("안a", [b"<t>", b"\x95\x88a"])], False, [(b"\xec", 0), (b"<t>", 0), (b"\x95\x88a", 0)]),
        (
            [("", [b"\xec"]), ("", [b"\x95\x88b"]), ("안bc", [b"c"])],
            False,
            [(b"\xec", 0), (b"\x95\x88b", 0), (b"c", 2)],
        ),
        ([("ab", [b"\xec", b"a", b"b"])], False, [(b"\xec", 0), (b"a", 0), (b"b", 1)]),
    ],
)
def test_offsets_count_the_characters_of_the_text(
    pieces: list[tuple[str, list[bytes]]], stopped: bool, wanted: list[tuple[bytes, int]]
) -> None:
    assert given(*pieces, stopped=stopped) == wanted


def test_half_a_character_waits_for_its_rest() -> None:
    placing = Aligner()
    assert placing.feed("a", [token(b"a\xec")]) == []
    assert placing.feed("", [token(b"\x95")]) == []
    assert [placed.offset for placed in placing.feed("안b", [token(b"\x88b")])] == [0, 1, 1]


def test_tokens_behind_a_text_go_on_from_it() -> None:
    placed = Aligner(before=3).feed(" xy", [token(b" x"), token(b"y")])
    assert [offset for _, offset in placed] == [3, 5]


def test_what_json_cannot_say_is_said_as_openai_does() -> None:
    placing = Aligner()
    likely = Likely(id=2, raw=(0xEC,), logprob=-2.0)
    impossible = TokenLogprob(id=1, raw=(0xEC, 0x95), logprob=-inf, top=(likely, likely))
    placed = placing.feed("", [impossible]) + placing.end(stopped=False)
    told = logprobs.text_logprobs(placed)
    assert told.tokens == [r"bytes:\xec\x95"]
    assert told.token_logprobs == [-9999.0]
    assert told.top_logprobs == [{r"bytes:\xec": -2.0, r"bytes:\xec\x95": -9999.0}]
    [chat] = logprobs.chat_logprobs(placed).content
    assert (chat.token, chat.bytes, chat.logprob) == ("\ufffd", [0xEC, 0x95], -9999.0)
