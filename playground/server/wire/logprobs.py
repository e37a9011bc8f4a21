"""Log-probabilities in OpenAI's objects, and which tokens belong to the text that is shown."""

import codecs
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from playground.events import Likely, TokenLogprob
from playground.protocol import PromptToken
from playground.server.wire.responses import ChatLogprobs, ContentLogprob, TextLogprobs, TopLogprob

Token = PromptToken | TokenLogprob
WHOLE = (b"", 0)
"""The state of a decoder that waits for nothing."""
LEAST = -9999.0
"""What OpenAI says of a token that cannot come: JSON has no infinity."""


class PlacedToken(NamedTuple):
    """A token, and how many characters of the text stand before it."""

    token: Token
    offset: int


class Aligner:
    """Matches a row's tokens with its text and gives each out, with its offset, once the text that it spells is shown.

    Text and tokens arrive apart: text is held back while it may become a stop string, whose tokens are never given
    out. The text is what a decoder makes of the tokens' bytes one after another, U+FFFD where they are no character. A
    token that the text does not spell (a control token) comes with its neighbours.
    """

    def __init__(self, before: int = 0) -> None:
        """`before`: characters of a text that the tokens go on from."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown = bytearray()
        """Text that no token has been found for yet."""
        self._waiting: deque[Token] = deque()
        self._halved: list[PlacedToken] = []
        """Tokens that were found, and wait for the rest of a character."""
        self._begun = False
        self._offset = before

    def feed(self, text: str, tokens: Iterable[Token]) -> list[PlacedToken]:
        """Take more text and tokens; return the tokens whose text is shown by now."""
        self._shown += text.encode()
        self._waiting += tokens
        ready: list[PlacedToken] = []
        while self._waiting and self._find(self._waiting[0]):
            self._waiting.popleft()
            if not self._is_half:
                ready += self._halved
                self._halved = []
        return ready

    def end(self, stopped: bool) -> list[PlacedToken]:
        """Return the tokens that are left: where a stop string ended the text, only those that begin before it."""
        shown = self._offset + len(self._shown.decode())
        left = self._halved + [self._placed(token, *self._read(self._spelled(token))) for token in self._waiting]
        return [placed for placed in left if not stopped or placed.offset < shown]

    def _find(self, token: Token) -> bool:
        """Look for a token at the beginning of what is shown; False where that may still become its text."""
        raw, before = self._spelled(token), self._decoder.getstate()
        for state in dict.fromkeys((before, WHOLE)):  # a server elsewhere may leave half a character out of its text
            self._decoder.setstate(state)
            text, own = self._read(raw)
            spelled = text.encode()
            if self._shown.startswith(spelled):
                self._begun |= bool(raw)
                del self._shown[: len(spelled)]  # costs nothing at the front of a bytearray, however long the rest
                self._halved.append(self._placed(token, text, own))
                return True
            self._decoder.setstate(before)
            if len(self._shown) < len(spelled) and spelled.startswith(bytes(self._shown)):
                return False
        self._halved.append(PlacedToken(token, self._offset))
        return True

    @property
    def _is_half(self) -> bool:
        """Whether the bytes read so far end within a character."""
        return bool(self._decoder.getstate()[0])

    def _placed(self, token: Token, text: str, own: int) -> PlacedToken:
        placed = PlacedToken(token, self._offset + own)
        self._offset += len(text)
        return placed

    def _read(self, raw: bytes) -> tuple[str, int]:
        """Return the text that a token's bytes complete, and where in it the character stands that the first one is of.

        That is at its beginning, but where it breaks off a half character: U+FFFD, which is of the tokens before.
        """
        first = self._decoder.decode(raw[:1])
        own = len(first) if self._is_half else max(len(first) - 1, 0)
        return first + self._decoder.decode(raw[1:]), own

    def _spelled(self, token: Token) -> bytes:
        """Return a token's bytes; the space that some vocabularies put in front of every text is not in the text."""
        raw = bytes(token.raw)
        if not self._begun and raw[:1] == b" " and self._shown and not self._shown.startswith(b" "):
            return raw[1:]
        return raw


def chat_logprobs(placed: Sequence[PlacedToken]) -> ChatLogprobs:
    """Return tokens in the object of /v1/chat/completions."""
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


def text_logprobs(placed: Sequence[PlacedToken]) -> TextLogprobs:
    """Return tokens in the object of /v1/completions; the token itself is among the likeliest, or behind them."""
    return TextLogprobs(
        tokens=[_name(token.raw) for token, _ in placed],
        token_logprobs=[None if token.logprob is None else _value(token.logprob) for token, _ in placed],
        top_logprobs=[_tops(token) for token, _ in placed],
        text_offset=[offset for _, offset in placed],
    )


def join(first: TextLogprobs | None, second: TextLogprobs | None) -> TextLogprobs | None:
    """Join the objects of a text and of what follows it; pydantic does not check them again."""
    if first is None or second is None:
        return first or second
    return TextLogprobs.model_construct(
        tokens=first.tokens + second.tokens,
        token_logprobs=first.token_logprobs + second.token_logprobs,
        top_logprobs=first.top_logprobs + second.top_logprobs,
        text_offset=first.text_offset + second.text_offset,
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
    """Return a token's text; bytes that are no text by themselves as OpenAI writes them, `bytes:\\xec\\x95`."""
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
