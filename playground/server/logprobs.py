"""Log-probabilities as OpenAI tells them, and which tokens belong to the text that is shown."""

import codecs
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from playground.backends.base import PromptToken
from playground.events import Likely, TokenLogprob
from playground.server.responses import ChatLogprobs, ContentLogprob, TextLogprobs, TopLogprob

Token = PromptToken | TokenLogprob
LEAST = -9999.0
"""What OpenAI says of a token that cannot come: JSON has no infinity."""


class Placed(NamedTuple):
    """A token, and how many characters of the text stand before it."""

    token: Token
    offset: int


class Placing:
    """Gives tokens out as the text that they spell is shown; those of a stop string, which never is, are kept.

    A token that the text does not spell (a control token) comes with its neighbours.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown = bytearray()
        """Text that no token has been found for yet."""
        self._waiting: deque[Token] = deque()
        self._begun = False
        self._offset = 0

    def feed(self, text: str, tokens: Iterable[Token]) -> list[Placed]:
        """More text and tokens; the tokens that are through."""
        self._shown += text.encode()
        self._waiting += tokens
        ready = []
        while self._waiting:
            raw = self._spelled(self._waiting[0])
            if len(self._shown) < len(raw) and raw.startswith(bytes(self._shown)):
                break
            ready.append(self._placed(raw if self._shown.startswith(raw) else b""))
        return ready

    def end(self, stopped: bool) -> list[Placed]:
        """What is left at the end: where a stop string ended the text, only a token that begins before it."""
        left = list(self._waiting)
        if stopped:
            left = left[:1] if self._shown and left else []
        return [self._placed(self._spelled(token)) for token in left]

    def _placed(self, raw: bytes) -> Placed:
        placed = Placed(self._waiting.popleft(), self._offset)
        del self._shown[: len(raw)]  # costs nothing at the front of a bytearray, however long the rest
        self._offset += len(self._decoder.decode(raw))
        self._begun |= bool(raw)
        return placed

    def _spelled(self, token: Token) -> bytes:
        """A token's bytes; the space that some vocabularies put in front of every text is not in the text."""
        raw = bytes(token.raw)
        if not self._begun and raw[:1] == b" " and self._shown and not self._shown.startswith(b" "):
            return raw[1:]
        return raw


def chat(placed: Sequence[Placed]) -> ChatLogprobs:
    """Tokens as /v1/chat/completions tells them."""
    content = [
        ContentLogprob(
            token=_text(token.raw),
            logprob=_value(token.logprob),
            bytes=list(token.raw),
            top_logprobs=[_top(likely) for likely in token.top],
        )
        for token, _ in placed
    ]
    return ChatLogprobs(content=content, refusal=None)


def text(placed: Sequence[Placed]) -> TextLogprobs:
    """Tokens as /v1/completions tells them; the token itself is always among the likeliest, if as the last."""
    return TextLogprobs(
        tokens=[_name(token.raw) for token, _ in placed],
        token_logprobs=[None if token.logprob is None else _value(token.logprob) for token, _ in placed],
        top_logprobs=[_tops(token) for token, _ in placed],
        text_offset=[offset for _, offset in placed],
    )


def _tops(token: Token) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    tops: dict[str, float] = {}
    for likely in token.top:
        tops.setdefault(_name(likely.raw), _value(likely.logprob))
    tops.setdefault(_name(token.raw), _value(token.logprob))
    return tops


def _top(likely: Likely) -> TopLogprob:
    return TopLogprob(token=_text(likely.raw), logprob=_value(likely.logprob), bytes=list(likely.raw))


def _value(logprob: float | None) -> float:
    return LEAST if logprob is None else max(logprob, LEAST)


def _text(raw: Sequence[int]) -> str:
    return bytes(raw).decode(errors="replace")


def _name(raw: Sequence[int]) -> str:
    """A token's text; bytes that are no text by themselves as OpenAI writes them, `bytes:\\xec\\x95`."""
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
