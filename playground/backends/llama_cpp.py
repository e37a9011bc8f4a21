"""GGUF files through llama.cpp's low-level calls.

The high-level `Llama` class of llama-cpp-python applies top_p before temperature and hides the prompt from the
penalties; here a chain of llama.cpp's own samplers, fed with the prompt, draws from the same distribution as
transformers does. Sequences decode in one batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import llama_cpp.llama_cpp as lib

from playground.allowance import Cancelled
from playground.backends.llama_contexts import BATCH, Contexts
from playground.backends.llama_model import LlamaModel
from playground.backends.llama_scoring import LlamaScorer
from playground.backends.logprobs import ALONE, Floats, Room, prompt_logprobs, token_logprob
from playground.backends.prompt_cache import KEPT, SHORTEST, Portion, PromptCache, cells, portions, tokens
from playground.events import TokenLogprob
from playground.presets import Sampling
from playground.prompts import choose, opening
from playground.protocol import Backend, Choices, ModelSpec, Pause, PromptToken, Row, RowRequest, Scored

MAX_ROWS = 16
SCORE_TOKENS = 512


@dataclass(eq=False, kw_only=True)
class LlamaRow(Row):
    """A row with its sequence in the shared cache, its sampler chain and the token drawn for it."""

    sequence: int
    sampler: Any
    portions: list[tuple[int, ...]]
    """The prompt as it is read."""
    opened: bool
    """Whether its last portion ends where an answer begins, as one of its conversation's next prompt will."""
    alone: bool
    """Whether no other row was open at any time of it."""
    cached: list[Portion] = field(default_factory=list)
    """What of the prompt is in the cache."""
    drawn: int = -1
    likely: TokenLogprob | None = None
    """The token drawn with the likeliest of its place, where the request asks for it."""

    @property
    def needed(self) -> int:
        """Return the tokens that its prompt and its answer may still add to the cache."""
        return len(self.prompt) + self.request.sampling.max_new_tokens - tokens(self.cached)


class LlamaCppBackend(LlamaModel, Backend[LlamaRow]):
    """One GGUF file, whose answers share one context with up to 16 sequences."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        context = self.info.context
        kept = () if self._stateful else range(MAX_ROWS, MAX_ROWS + KEPT)
        self._contexts = Contexts(self._model, spec.name, context, MAX_ROWS + len(kept), self._reason)
        self._contexts.threads, self._contexts.answers_flash = spec.threads, self._on_card
        self._contexts.have_answers()
        self.info = self.info.model_copy(update={"memory_bytes": self.memory()[0]})
        self._scorer = LlamaScorer(self._contexts, min(SCORE_TOKENS, context), MAX_ROWS)
        self._cache = PromptCache(kept, self._copy_cells, self._drop_sequence)
        self.pause = Pause()
        self.max_rows = MAX_ROWS
        self._free = list(range(MAX_ROWS))
        self._open: list[LlamaRow] = []
        self._openings: dict[str | None, tuple[int, ...]] = {}

    def use_threads(self, threads: int) -> None:
        self._contexts.use_threads(threads)

    def score(self, questions: Sequence[Choices], adapter: str | None = None) -> Scored:
        """Score choices: the tokens of a context belong to the sequences of all its choices."""
        with self._scoring():
            return self._scorer.score(questions, self.pause)

    def logprobs(self, ids: Sequence[int], adapter: str | None = None) -> Floats:
        with self._scoring():
            return self._scorer.logprobs(ids, self.pause)

    def prompt_logprobs(
        self, prompts: Sequence[Sequence[int]], top: int, adapter: str | None = None
    ) -> list[list[PromptToken]]:
        """Read every prompt; what they begin with alike is computed once, but in models with a state."""
        most = self._scorer.tokens
        room = Room(ALONE if self._stateful else most, self.max_rows, most)
        read = partial(self._scorer.reads, top=top, pause=self.pause)
        with self._scoring():
            return prompt_logprobs(prompts, room, read, self._tokenizer.piece)

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        """Have a context for scores in this block."""
        if not self._open:
            self._cache.forget_all()  # the answers' context goes
        self._contexts.have_scores(beside_answers=bool(self._open))
        try:
            yield
        finally:
            self._contexts.leave_scores()

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        """Return whether the shared cache can hold one more row to its end."""
        taken = cells(row.cached for row in self._open) + sum(row.needed for row in self._open)
        fits = taken + len(prompt) + sampling.max_new_tokens <= self.info.context
        return bool(self._free) and (not self._open or fits)

    def open(self, request: RowRequest, prompt: list[int]) -> LlamaRow:
        """Return a row with a sequence of its own and a sampler that has seen the prompt."""
        self._contexts.have_answers()
        header = self._opening(request)
        parts = portions(prompt, self._tokenizer.is_control, min(BATCH, self.info.context), header)
        row = LlamaRow(
            request,
            prompt,
            sequence=self._free.pop(),
            sampler=self._chain(request.sampling, prompt),
            portions=parts,
            opened=bool(header) and parts[-1][-len(header) :] == header and len(parts[-1]) >= SHORTEST,
            alone=not self._open,
        )
        for other in self._open:
            other.alone = False
        if row.alone:
            self._cache.tidy_up(row.portions[:-1])
        self._open.append(row)
        self._borrow(row)
        needed = sum(one.needed for one in self._open)
        self._cache.fit([one.cached for one in self._open], needed, self.info.context)
        return row

    def _opening(self, request: RowRequest) -> tuple[int, ...]:
        """Return the tokens that an answer begins after; none for raw prompts."""
        if not request.messages:
            return ()
        if request.prompt_format not in self._openings:
            words = self._tokenizer.vocabulary()
            chosen = choose(request.variant, words.template, request.prompt_format)
            text = opening(chosen, words.tokens)
            self._openings[request.prompt_format] = tuple(self._tokenizer.encode(text, add_special=False))
        return self._openings[request.prompt_format]

    def _borrow(self, row: LlamaRow) -> None:
        """Take what is kept of the prompt, which need not be read; its last portion is, for the logits at its end."""
        self._cache.lend(row.sequence, row.portions[:-1], row.cached)
        row.read = tokens(row.cached)

    def _copy_cells(self, source: int, target: int, begin: int, end: int) -> None:
        lib.llama_memory_seq_cp(self._contexts.memory, source, target, begin, end)

    def _drop_sequence(self, sequence: int, begin: int = 0) -> None:
        lib.llama_memory_seq_rm(self._contexts.memory, sequence, begin, -1)

    def _chain(self, sampling: Sampling, prompt: list[int]) -> Any:
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        for sampler in samplers(sampling, prompt, self.info.vocabulary, self.info.context):
            lib.llama_sampler_chain_add(chain, sampler)
        return chain

    def prefill(self, row: LlamaRow) -> bool:
        """Read portions of the prompt, some 512 tokens at most; a cancel stops llama.cpp inside them."""
        self._borrow(row)
        begun = row.read
        while True:
            portion = row.portions[len(row.cached)]
            last = len(row.cached) + 1 == len(row.portions)
            self._read(row, portion, last)
            row.cached.append(Portion(portion))
            row.read += len(portion)
            whole = lib.llama_memory_seq_pos_min(self._contexts.memory, row.sequence) == 0
            if whole and (row.opened or not last):  # no window has forgotten its beginning
                self._cache.keep(row.sequence, row.cached, row.alone)
            if last:
                self._draw(row, len(portion) - 1)
                return True
            if row.read - begun + len(row.portions[len(row.cached)]) > BATCH:
                return False

    def _read(self, row: LlamaRow, portion: Sequence[int], last: bool) -> None:
        """Compute a portion in one batch, with logits at its end where it is the prompt's last."""
        for index, token in enumerate(portion):
            wanted = last and index == len(portion) - 1
            self._contexts.put(index, token, row.read + index, [row.sequence], wanted)
        self._contexts.decode(len(portion), row.cancelled)
        if row.cancelled():
            raise Cancelled

    def _draw(self, row: LlamaRow, place: int) -> None:
        """Draw at once: the next batch, another row's prompt perhaps, overwrites these logits."""
        if row.forced:
            row.drawn = row.forced.pop(0)
            lib.llama_sampler_accept(row.sampler, row.drawn)
        else:
            row.drawn = int(lib.llama_sampler_sample(row.sampler, self._contexts.current, place))
        top = row.request.top_logprobs
        if top is not None:
            row.likely = token_logprob(self._contexts.logits(place), row.drawn, top, self._tokenizer.piece)

    def sample(self, row: LlamaRow) -> int:
        """Return the token drawn; llama.cpp has accepted it into the penalties by itself."""
        return row.drawn

    def decode(self, rows: Sequence[LlamaRow]) -> None:
        for index, row in enumerate(rows):
            position = len(row.prompt) + len(row.tokens) - 1
            self._contexts.put(index, row.tokens[-1], position, [row.sequence], True)
        self._contexts.decode(len(rows))
        for index, row in enumerate(rows):
            self._draw(row, index)

    def likely(self, row: LlamaRow, token: int) -> TokenLogprob:
        """Return what was read when the token was drawn."""
        assert row.likely is not None
        return row.likely

    def close_row(self, row: LlamaRow) -> None:
        self._drop_sequence(row.sequence)
        lib.llama_sampler_free(row.sampler)
        self._open.remove(row)
        self._free.append(row.sequence)

    def close(self) -> None:
        self._contexts.close()
        lib.llama_model_free(self._model)

    def _reason(self) -> str:
        return self._errors[-1] if self._errors else "no reason given"


def samplers(sampling: Sampling, prompt: Sequence[int], vocabulary: int, context: int) -> list[Any]:
    """Return llama.cpp samplers, in transformers' order, that draw as `sampling` says; the last picks the token.

    The repetition penalty alone has seen the prompt: presence and frequency count the answer. `context` is how many
    tokens back the penalties see: all of them.
    """
    chain = []
    if sampling.repetition_penalty != 1.0:
        chain.append(lib.llama_sampler_init_penalties(vocabulary, context, sampling.repetition_penalty, 0.0, 0.0))
        for token in prompt:
            lib.llama_sampler_accept(chain[0], token)
    frequency, presence = sampling.frequency_penalty, sampling.presence_penalty
    if frequency != 0.0 or presence != 0.0:
        chain.append(lib.llama_sampler_init_penalties(vocabulary, context, 1.0, frequency, presence))
    if sampling.greedy:
        return [*chain, lib.llama_sampler_init_greedy()]
    if sampling.temperature != 1.0:
        chain.append(lib.llama_sampler_init_temp(sampling.temperature))
    if sampling.top_k > 0:
        chain.append(lib.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1.0:
        chain.append(lib.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0.0:
        chain.append(lib.llama_sampler_init_min_p(sampling.min_p, 1))
    return [*chain, lib.llama_sampler_init_dist(sampling.seed or 0)]
