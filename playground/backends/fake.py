"""A backend without a model, at our own seam: tests and page work run on it in milliseconds.

It answers with the name of the variant and the last question, character by character. Words in the question make it
misbehave: `!slow` waits between tokens, `!crash` kills the process as native code does, `!fail` raises MadangError,
`!long` never stops by itself, `!emoji` answers in emoji and Hangul, byte by byte, `!think` thinks between tags before
it answers, `!muse` never stops doing so. Ends of the source: `thinker` has a template that switches thinking, and
thinks unless that is off; `opener` one that opens a thought. Others do this at loading:
`broken` is refused, `aborts` kills the process, `sleepy` takes minutes, `noisy` prints to the process's stdout
and reads its stdin, as a library does that asks a question.

Its log-probabilities: a byte that stood before (in the prompt or the answer) has -0.5, another -1.0, and is the
likeliest; the byte after it follows with 1.0 less, and so on. A space alone has -2.0 and is the second: `!` leads.
"""

import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playground.allowance import Cancelled
from playground.errors import VariantError
from playground.events import Likely, TokenLogprob
from playground.presets import Sampling
from playground.protocol import (
    Backend,
    Choices,
    ModelInfo,
    ModelSpec,
    Pause,
    PromptToken,
    Row,
    RowRequest,
    Scored,
    Tokenizer,
    Vocabulary,
)
from playground.typed.control import Control, Edges, Reserved

if TYPE_CHECKING:
    import numpy as np

END = 256
SPACE = 32
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
OPENER = PLAIN + "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
THINKER = (
    "{% for m in messages %}{{ m.role }}: {% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content }}"
    "\n</think>\n\n{% endif %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: "
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
TEMPLATES = {"opener": OPENER, "thinker": THINKER}
"""By the end of the source; PLAIN for all others."""
THOUGHT = "They said: "
CLOSING = "\n</think>\n\n"


@dataclass(eq=False)
class FakeRow(Row):
    """A row whose answer is known from the start, as bytes."""

    answer: bytes = b""
    slow: bool = False
    made: int = 0


RESERVED = Reserved({"<END>": Edges()}, {})


class Bytes(Tokenizer):
    """A token is a byte; 256, spelled <END>, ends the answer."""

    size = END + 1

    def __init__(self, template: str = PLAIN) -> None:
        self._template = template

    @property
    def reserved(self) -> Reserved:
        return RESERVED

    def vocabulary(self) -> Vocabulary:
        return Vocabulary(bos="", eos="", prefix=END, eos_id=END, template=self._template)

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        first, *others = text.split("<END>")
        return list(first.encode()) + [token for part in others for token in (END, *part.encode())]

    def plain(self, piece: str, control: Control, first: bool) -> list[int]:
        return list(piece.encode())

    def piece(self, token: int) -> bytes:
        return _piece(token)

    def answer_bytes(self, token: int) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == END


class FakeBackend(Backend[FakeRow]):
    """Answers at once, from no model."""

    def __init__(self, spec: ModelSpec) -> None:
        if spec.path.endswith("broken"):
            raise VariantError(f"{spec.path} is broken.", "Use another path.")
        if spec.path.endswith("aborts"):
            os.kill(os.getpid(), signal.SIGABRT)
        if spec.path.endswith("sleepy"):
            time.sleep(600)
        if spec.path.endswith("noisy"):
            os.write(1, b'{"type": "native code prints what it likes"\n')
            print("and so does Python", flush=True)  # noqa: T201 - the misbehaviour itself
            os.read(0, 1000)
        self._chunk = 64
        ends = [template for end, template in TEMPLATES.items() if spec.path.endswith(end)]
        self._tokenizer = Bytes(ends[0] if ends else PLAIN)
        self._thinks = bool(ends)
        self._slow = spec.path.endswith("slow")
        self.pause = Pause()
        self.max_rows = 64
        self.info = ModelInfo(
            dtype="fake",
            device="cpu",
            context=spec.context or 512,
            trained_context=2048,
            vocabulary=257,
            memory_bytes=1,
        )

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        return True

    def open(self, request: RowRequest, prompt: list[int]) -> FakeRow:
        """Decide the answer; with a temperature the seed adds a number to it."""
        question = request.messages[-1].content if request.messages else request.text or ""
        if request.ids is not None:
            question = bytes(token for token in request.ids if token != END).decode(errors="replace")
        if "!fail" in question:
            raise VariantError("The fake was told to fail.", "Leave out !fail.")
        answer = f"{request.variant} heard: {question}"
        if request.sampling.seed is not None and not request.sampling.greedy:
            answer += f" #{random.Random(request.sampling.seed).randrange(10**6)}"
        if "!emoji" in question:
            answer = "안녕 👩‍👩‍👧 마당 🎉"
        if "!long" in question:
            answer *= 1000
        answer = _thought(question, b"".join(map(_piece, prompt[-40:])).decode(errors="replace"), self._thinks) + answer
        return FakeRow(request, prompt, answer=answer.encode(), slow="!slow" in question)

    def prefill(self, row: FakeRow) -> bool:
        if row.cancelled():
            raise Cancelled
        time.sleep(0.05 if row.slow else 0)
        row.read = min(row.read + self._chunk, len(row.prompt))
        return row.read == len(row.prompt)

    def sample(self, row: FakeRow) -> int:
        if b"!crash" in row.answer and row.made > 10:
            os.kill(os.getpid(), signal.SIGABRT)
        if row.forced:
            token = row.forced.pop(0)
            if not row.forced:
                row.made = row.answer.find(CLOSING.encode()) + len(CLOSING)
            return token
        token = row.answer[row.made] if row.made < len(row.answer) else END
        row.made += 1
        return token

    def decode(self, rows: Sequence[FakeRow]) -> None:
        """Wait, where a row asked for it."""
        if any(row.slow for row in rows):
            time.sleep(0.02)

    def likely(self, row: FakeRow, token: int) -> TokenLogprob:
        """Return log-probabilities as the head of this file says."""
        logprob, top = _held(token, [*row.prompt, *row.tokens], row.request.top_logprobs or 0)
        return TokenLogprob(id=token, raw=tuple(_piece(token)), logprob=logprob, top=top)

    def close_row(self, row: FakeRow) -> None:
        """Do nothing: nothing is held."""

    def use_threads(self, threads: int) -> None:
        """Ignore the number: it needs none."""

    def tokenizer(self, adapter: str | None = None) -> Bytes:
        return self._tokenizer

    def score(self, questions: Sequence[Choices], adapter: str | None = None) -> Scored:
        """Score longer continuations lower, and bytes that the context holds a little higher."""
        for _ in questions:
            self.pause()
            time.sleep(0.3 / len(questions) if self._slow else 0)
        logprobs = [
            [sum(-0.5 if token in set(q.context) else -1.0 for token in choice) for choice in q.continuations]
            for q in questions
        ]
        greedy = [[False] * len(q.continuations) for q in questions]
        return Scored(logprobs=logprobs, greedy=greedy, computed=sum(q.size for q in questions))

    def logprobs(self, ids: Sequence[int], adapter: str | None = None) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return the same log-probability for every byte."""
        import numpy as np

        return np.full((len(ids), 257), -np.log(257), dtype=np.float32)

    def prompt_logprobs(
        self, prompts: Sequence[Sequence[int]], top: int, adapter: str | None = None
    ) -> list[list[PromptToken]]:
        """Return log-probabilities as the head of this file says."""
        rows = []
        for ids in prompts:
            self.pause()
            time.sleep(0.1 if self._slow else 0)
            row = [PromptToken(id=ids[0], raw=tuple(_piece(ids[0])), logprob=None)]
            for place in range(1, len(ids)):
                logprob, best = _held(ids[place], ids[:place], top)
                row.append(PromptToken(id=ids[place], raw=tuple(_piece(ids[place])), logprob=logprob, top=best))
            rows.append(row)
        return rows

    def memory(self) -> tuple[int, int]:
        return 2**20, 0

    def close(self) -> None:
        """Do nothing: nothing is held."""


def _thought(question: str, end: str, thinks: bool) -> str:
    """Return what stands before the answer to a question, by how its prompt ends."""
    if end.endswith(CLOSING) or not (thinks or "!think" in question or "!muse" in question):
        return ""
    opening = "" if end.endswith("<think>\n") else "<think>\n"
    return opening + (THOUGHT + question) * (1000 if "!muse" in question else 1) + CLOSING


def _piece(token: int) -> bytes:
    return b"<end>" if token == END else bytes([token])


def _held(token: int, before: Sequence[int], top: int) -> tuple[float, tuple[Likely, ...]]:
    """Return what the fake holds of a token after others, and so many of the likeliest."""
    logprob = -2.0 if token == SPACE else -0.5 if token in before else -1.0
    order = [(token + step) % (END + 1) for step in range(min(top, END + 1))]
    values = [logprob - step for step in range(len(order))]
    if token == SPACE and order:
        order = [SPACE + 1, SPACE, *order[2:]][:top]
        values = [-0.25, *values][:top]
    best = [
        Likely(id=other, raw=tuple(_piece(other)), logprob=value) for other, value in zip(order, values, strict=True)
    ]
    return logprob, tuple(best)
