"""What workers are asked and answer: the types that pages, servers and engines share, and the Backend protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pydantic import Field

from playground.allowance import Cancelled
from playground.errors import MadangError
from playground.events import Likely, TokenLogprob
from playground.messages import Message
from playground.presets import Sampling
from playground.thinking.asked import Thinking
from playground.typed.control import Control, Reserved
from playground.values import Value

if TYPE_CHECKING:
    import numpy as np

DEFAULT_CONTEXT = 4096
"""Tokens of prompt and answer together where the catalogue names none and the model holds at least as many."""
Engine = Literal["transformers", "llama_cpp", "openai", "fake"]


class Address(Value):
    """Where a remote variant answers: base URL, its model's name there, the variable with the key, longest silence."""

    url: str
    model: str | None = None
    key_env: str | None = None
    timeout_s: float = 120.0


class ModelSpec(Value):
    """What one worker loads: local paths alone, decided by playground.workers.loadable. Equal specs share a worker."""

    engine: Engine
    name: str
    path: str
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    load_in_4bit: bool = False
    gpu_layers: int | Literal["auto"] = "auto"
    context: int | None = None
    threads: int = 1
    remote: Address | None = None
    """For the engine `openai` alone: nothing is loaded here."""


class RowRequest(Value):
    """One answer wanted from a loaded model."""

    id: str = ""
    """Its ticket's (playground.workers.tickets), which puts it in."""
    variant: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    """A raw text to go on from, in place of messages and template."""
    ids: tuple[int, ...] | None = None
    """A prompt as token ids, taken as it is, in place of a text."""
    top_logprobs: int | None = Field(default=None, ge=0)
    """Wanted with each token of the answer: its log-probability, and so many of the likeliest; None: nothing."""
    sampling: Sampling
    prompt_format: str | None = None
    parse_special: bool = False
    """Whether control tokens that a message types are read as such; else they are text."""
    adapter: str | None = None
    """Folder of the LoRA adapter this row runs with; None is the base itself."""
    group: str = ""
    """Rows of one request have one name: groups with fewer answers under way come first."""
    thinking: Thinking = Thinking()
    template_options: dict[str, Any] = Field(default_factory=dict)
    """Variables for the chat template, by name; they win over what `thinking` sets."""
    apart: bool = False
    """Whether the thoughts of a raw text's answer stand apart, as those of a chat always do."""
    continues: bool = False
    """Whether the last message is the beginning of the answer."""
    opened: bool = True
    """Whether the template begins an answer behind the turns; False has the model go on from their end."""
    whole: bool = False
    """Whether a prompt that does not fit is refused, where it would lose its oldest turns."""


class ModelInfo(Value):
    """Facts about a loaded model. context: tokens; memory: bytes held by its process (and card)."""

    dtype: str
    device: str
    context: int
    trained_context: int
    vocabulary: int
    memory_bytes: int
    vram_bytes: int = 0


class Choices(Value):
    """Continuations to score after one context, as token ids. The context holds at least one token."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Return the least tokens to compute: the context once, each continuation once but for its last token."""
        return len(self.context) + sum(len(continuation) - 1 for continuation in self.continuations)


class Scored(Value):
    """The log-probability in nats of each choice of each question, and whether greedy decoding would give it.

    `computed` counts the tokens the engine ran to find out, padding included.
    """

    logprobs: list[list[float]]
    greedy: list[list[bool]]
    computed: int


class PromptToken(Value):
    """A token of a prompt, with the likeliest ones of its place, most likely first.

    `logprob`: in nats, given all that stands before it, under the model itself; None, and no `top`, for the first.
    """

    id: int
    raw: tuple[int, ...]
    """Its bytes, as in Likely."""
    logprob: float | None
    top: tuple[Likely, ...] = ()


class Vocabulary(Value):
    """Facts about a tokenizer. template: its own chat template; prefix: what stands before an empty context.

    `tokens`: its special tokens by the names that a template is given them under (`bos_token`, `unk_token`, …).
    """

    bos: str
    eos: str
    prefix: int
    eos_id: int
    template: str | None
    tokens: dict[str, str] = Field(default_factory=dict)


class Tokenizer(Protocol):
    """From text to token ids and back, as a model's files have it."""

    size: int
    """Ids that the model has a row for: 0 to size - 1."""

    @property
    def reserved(self) -> Reserved:
        """What it reads as one token wherever it stands."""
        ...

    def vocabulary(self) -> Vocabulary:
        """Return the special tokens and the chat template, as the model's files name them."""
        ...

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        """Return token ids, control tokens parsed.

        `add_special` None adds BOS where the tokenizer does by itself, but never a second.
        """
        ...

    def at_least(self, text: str) -> int:
        """Return how many tokens a text takes at least, found out without encoding it; 0 where that is not known."""
        return 0

    def plain(self, piece: str, control: Control, first: bool) -> list[int]:
        """Return token ids of a piece of a prompt in which control tokens are text; no BOS.

        `first`: whether it begins the prompt; else it follows a control token.
        """
        ...

    def piece(self, token: int) -> bytes:
        """Return a token's own bytes, which may be part of a character: of a control token its name.

        Empty for an id that the tokenizer has no word for.
        """
        ...

    def answer_bytes(self, token: int) -> bytes:
        """Return the bytes that a token adds to an answer: its own, or none where it is a control token."""
        ...

    def is_end(self, token: int) -> bool:
        """Return whether a token ends the answer."""
        ...


@dataclass(eq=False)
class Row:
    """One answer being made. A backend subclasses it to keep the row's own cache and sampler."""

    request: RowRequest
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    read: int = 0
    """Prompt tokens already in the cache."""
    forced: list[int] = field(default_factory=list)
    """Tokens that come next, whatever would be drawn: samplers see each, and take it off."""
    cancelled: Callable[[], bool] = lambda: False


R = TypeVar("R", bound=Row)
"""The rows of one engine, which it alone makes and reads."""


@dataclass
class Pause:
    """Called by a long call before each of its batches: lets others go on, and ends the call where nobody waits."""

    given_up: Callable[[], bool] = lambda: False
    others: Callable[[], None] = lambda: None

    def __call__(self) -> None:
        """Let others go on; raise Cancelled where nobody waits any more."""
        if self.given_up():
            raise Cancelled
        self.others()
        if self.given_up():
            raise Cancelled


class Backend(Protocol[R]):
    """An engine with one loaded model. Calls come from one thread; `close` frees everything.

    A row's life: `open`, `read` until it says True, then `draw` and `decode` in turn, `close_row`. `score`,
    `logprobs` and `prompt_logprobs` call `pause` before each of their batches; rows open, go on and close in it.
    """

    info: ModelInfo
    pause: Pause
    max_rows: int
    """Rows that can be open at once."""
    portion: int = 512
    """Tokens of prompts that are read, by all who wait together, between two tokens of those who are answered."""

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        """Return whether a row can be opened now; always true while no row is open."""
        ...

    def open(self, request: RowRequest, prompt: list[int]) -> R:
        """Return a row with an empty cache; load the row's adapter where that is not loaded yet."""
        ...

    def read(self, rows: Sequence[R]) -> list[bool | Cancelled]:
        """Read a portion of the prompt of each row, together where the engine can; what `prefill` says of each."""
        return [read_alone(self, row) for row in rows]

    def prefill(self, row: R) -> bool:
        """Read the next chunk of the prompt; True once `sample` may be called. Raises Cancelled midway."""
        ...

    def draw(self, rows: Sequence[R]) -> list[int | None | MadangError]:
        """Draw the next token of each row, together where the engine can; None where it comes with the next call."""
        return [drawn_alone(self, row) for row in rows]

    def sample(self, row: R) -> int:
        """Draw the next token of a row from its latest logits, and remember it in its history."""
        ...

    def decode(self, rows: Sequence[R]) -> None:
        """Feed each row its newest token, all in one batch, so that each can `sample` again."""
        ...

    def likely(self, row: R, token: int) -> TokenLogprob:
        """Return the log-probability of the token that `sample` just gave, and the likeliest of its place.

        Asked only where the request wants it.
        """
        ...

    def close_row(self, row: R) -> None:
        """Free what the row holds; never fails."""
        ...

    def use_threads(self, threads: int) -> None:
        """Compute with so many CPU threads from now on."""
        ...

    def tokenizer(self, adapter: str | None = None) -> Tokenizer:
        """Return the tokenizer that rows with this adapter read and write with: its own where it brought one."""
        ...

    def score(self, questions: Sequence[Choices], adapter: str | None = None) -> Scored:
        """Score choices; the choices of a question share its context's computation."""
        ...

    def logprobs(self, ids: Sequence[int], adapter: str | None = None) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return log-probabilities [tokens, vocabulary] in nats of what follows each token of a text."""
        ...

    def prompt_logprobs(
        self, prompts: Sequence[Sequence[int]], top: int, adapter: str | None = None
    ) -> list[list[PromptToken]]:
        """Return every token of every prompt with its log-probability and the `top` likeliest of its place."""
        ...

    def memory(self) -> tuple[int, int]:
        """Return the bytes of RAM and of VRAM that the process holds now."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def read_alone(backend: Backend[R], row: R) -> bool | Cancelled:
    """Read the next chunk of one row's prompt; return whether it is ready, or that it was cancelled."""
    try:
        return backend.prefill(row)
    except Cancelled as cancelled:
        return cancelled


def drawn_alone(backend: Backend[R], row: R) -> int | MadangError:
    """Return the next token of one row, or why there is none."""
    try:
        return backend.sample(row)
    except MadangError as error:
        return error
