"""GGUF files through llama.cpp's low-level calls.

The high-level `Llama` class of llama-cpp-python applies top_p before temperature and hides the prompt from the
penalties; here a chain of llama.cpp's own samplers, fed with the prompt, draws from the same distribution as
transformers does. Sequences decode in one batch.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import llama_cpp.llama_cpp as lib
import psutil

from playground.backends import echo, llama_scoring
from playground.backends.likely import held
from playground.backends.llama_contexts import BATCH, Contexts, load_model
from playground.backends.llama_log import LOG
from playground.backends.llama_samplers import samplers
from playground.backends.prompt_cache import KEPT, SHORTEST, Portion, PromptCache, cells, portions, tokens
from playground.backends.text import ByteText
from playground.events import TokenLogprob
from playground.presets import Sampling
from playground.prompts import choose, opening
from playground.protocol import (
    DEFAULT_CONTEXT,
    Cancelled,
    Choices,
    ModelInfo,
    ModelSpec,
    Pause,
    PromptToken,
    Row,
    RowRequest,
    Scored,
    Vocabulary,
)

if TYPE_CHECKING:
    import numpy as np

MAX_ROWS = 16
SCORE_TOKENS = 512
SCORE_BATCH = 256
"""As fast as 512 at once, with half the logits in memory."""
ABORTED = 2
QUANT_SIZES = {" - Small": "_S", " - Medium": "_M", " - Large": "_L"}


@dataclass(eq=False)
class LlamaRow(Row):
    """A row with its sequence in the shared cache, its sampler chain and the token drawn for it.

    `held`: what the model held of that token, where the request asks. `portions`: the prompt as it is read, and
    `cached` what of it is in the cache. `opened`: its last portion ends where an answer begins, as one of the next
    prompt of its conversation will. `alone`: no other row was open at any time of it.
    """

    sequence: int = 0
    sampler: Any = None
    drawn: int = -1
    held: TokenLogprob | None = None
    decoder: ByteText = field(default_factory=ByteText)
    portions: list[tuple[int, ...]] = field(default_factory=list)
    cached: list[Portion] = field(default_factory=list)
    opened: bool = False
    alone: bool = False

    @property
    def needed(self) -> int:
        """Tokens that its prompt and its answer may still add to the cache."""
        return len(self.prompt) + self.request.sampling.max_new_tokens - tokens(self.cached)


class LlamaCppBackend:
    """Speaks the Backend protocol over one GGUF file and one context with up to 16 sequences."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._errors = LOG.listen()
        lib.llama_backend_init()
        self._model = load_model(spec, self._errors)
        self._vocab = lib.llama_model_get_vocab(self._model)
        trained = lib.llama_model_n_ctx_train(self._model)
        context = min(spec.context or DEFAULT_CONTEXT, trained or DEFAULT_CONTEXT)
        stateful = lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        self._stateful = bool(stateful)
        """Whether a state goes with a sequence, which no part of a prompt can be cut from."""
        self._on_card = bool(lib.llama_supports_gpu_offload()) and spec.gpu_layers != 0
        kept = () if self._stateful else range(MAX_ROWS, MAX_ROWS + KEPT)
        self._contexts = Contexts(self._model, spec.name, context, MAX_ROWS + len(kept), self._reason)
        self._contexts.threads, self._contexts.answers_flash = spec.threads, self._on_card
        self._contexts.have_answers()
        self.pause = Pause()
        self._cache = PromptCache(kept, self._copy_cells, self._drop_sequence)
        self._batch = lib.llama_batch_init(BATCH, 0, MAX_ROWS)
        self.max_rows = MAX_ROWS
        self.score_tokens, self.score_batch = min(SCORE_TOKENS, context), min(SCORE_BATCH, context)
        self._free = list(range(MAX_ROWS))
        self._open: list[LlamaRow] = []
        self._openings: dict[str | None, tuple[int, ...]] = {}
        self._aborting: LlamaRow | None = None
        self._scores_under_way = False
        self._abort = lib.ggml_abort_callback(self._is_aborted)
        self._never_abort = lib.ggml_abort_callback()
        self._template = _text(lib.llama_model_chat_template(self._model, None))
        self._bos = self._special(lib.llama_vocab_bos(self._vocab))
        self._eos = self._special(lib.llama_vocab_eos(self._vocab))
        self.info = self._describe(spec, context)

    def _describe(self, spec: ModelSpec, context: int) -> ModelInfo:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self._model, buffer, 256)
        words = buffer.value.decode(errors="replace")
        for long, short in QUANT_SIZES.items():
            words = words.replace(long, short)
        size = int(lib.llama_model_size(self._model))
        return ModelInfo(
            dtype=words.split()[-1],
            device="cuda" if self._on_card else "cpu",
            context=context,
            trained_context=lib.llama_model_n_ctx_train(self._model) or context,
            vocabulary=lib.llama_vocab_n_tokens(self._vocab),
            memory_bytes=self.memory()[0],
            vram_bytes=size if self._on_card else 0,
        )

    def use_threads(self, threads: int) -> None:
        """Compute with so many CPU threads from now on."""
        self._contexts.use_threads(threads)

    def vocabulary(self) -> Vocabulary:
        """Special tokens and chat template, as the file names them."""
        bos, eos = lib.llama_vocab_bos(self._vocab), lib.llama_vocab_eos(self._vocab)
        return Vocabulary(
            bos=self._bos, eos=self._eos, prefix=bos if bos >= 0 else eos, eos_id=eos, template=self._template or None
        )

    def encode(self, text: str, add_special: bool | None = None) -> list[int]:
        """Token ids, control tokens parsed; None adds BOS where the file says so, but never a second."""
        if add_special is None:
            add_special = not (self._bos and text.startswith(self._bos))
        raw = text.encode()
        room = len(raw) + 8
        ids = (lib.llama_token * room)()
        count = lib.llama_tokenize(self._vocab, raw, len(raw), ids, room, add_special, True)
        return list(ids[:count])

    def score(self, questions: Sequence[Choices], adapter: str | None = None) -> Scored:
        """Score choices: the tokens of a context belong to the sequences of all its choices."""
        with self._scoring():
            return llama_scoring.score(self, questions)

    def logprobs(self, ids: Sequence[int], adapter: str | None = None) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Log-probabilities [tokens, vocabulary] of what follows each token."""
        with self._scoring():
            return llama_scoring.logprobs(self, ids)

    def prompt_logprobs(
        self, prompts: Sequence[Sequence[int]], top: int, adapter: str | None = None
    ) -> list[list[PromptToken]]:
        """Every token of every prompt; what prompts begin with alike is computed once, but in models with a state."""
        room = echo.Room(echo.ALONE if self._stateful else self.score_tokens, self.max_rows, self.score_tokens)

        def read(questions: list[Choices]) -> list[echo.Read]:
            return llama_scoring.read(self, questions, top)

        with self._scoring():
            return echo.prompt_logprobs(prompts, room, read, self.piece)

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        """Whether the shared cache can hold one more row to its end."""
        taken = cells(row.cached for row in self._open) + sum(row.needed for row in self._open)
        fits = taken + len(prompt) + sampling.max_new_tokens <= self.info.context
        return bool(self._free) and (not self._open or fits)

    def open(self, request: RowRequest, prompt: list[int]) -> LlamaRow:
        """A row with a sequence of its own and a sampler that has seen the prompt."""
        self._contexts.have_answers()
        row = LlamaRow(request, prompt, sequence=self._free.pop(), sampler=self._chain(request.sampling, prompt))
        header = self._opening(request)
        row.portions = portions(prompt, self._is_control, min(BATCH, self.info.context), header)
        row.opened = bool(header) and row.portions[-1][-len(header) :] == header and len(row.portions[-1]) >= SHORTEST
        row.alone = not self._open
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
        """The tokens that an answer begins after; none for raw prompts."""
        if not request.messages:
            return ()
        if request.prompt_format not in self._openings:
            chosen = choose(request.variant, self._template or None, request.prompt_format)
            text = opening(chosen, self._bos, self._eos)
            self._openings[request.prompt_format] = tuple(self.encode(text, add_special=False))
        return self._openings[request.prompt_format]

    def _is_control(self, token: int) -> bool:
        return bool(lib.llama_vocab_is_control(self._vocab, token))

    def _borrow(self, row: LlamaRow) -> None:
        """What is kept of the prompt need not be read; its last portion is, for the logits at its end."""
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

    def prefill(self, row: Row) -> bool:
        """Read portions of the prompt, some 512 tokens at most; a cancel stops llama.cpp inside them."""
        assert isinstance(row, LlamaRow)
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
            self.put(index, token, row.read + index, [row.sequence], last and index == len(portion) - 1)
        self._batch.n_tokens = len(portion)
        self._aborting = row
        lib.llama_set_abort_callback(self._contexts.current, self._abort, None)
        code = lib.llama_decode(self._contexts.current, self._batch)
        lib.llama_set_abort_callback(self._contexts.current, self._never_abort, None)
        self._aborting = None
        if code == ABORTED or row.cancelled():
            raise Cancelled
        self._check(code, len(portion))

    def _draw(self, row: LlamaRow, place: int) -> None:
        """Draw at once: the next batch, another row's prompt perhaps, overwrites these logits."""
        row.drawn = int(lib.llama_sampler_sample(row.sampler, self._contexts.current, place))
        top = row.request.top_logprobs
        if top is not None:
            row.held = held(self.logits(place), row.drawn, top, self.piece)

    def sample(self, row: Row) -> int:
        """The token drawn from the row's chain; llama.cpp accepts it into the penalties by itself."""
        assert isinstance(row, LlamaRow)
        return row.drawn

    def decode(self, rows: Sequence[Row]) -> None:
        """One token of every row in one batch."""
        for index, row in enumerate(rows):
            assert isinstance(row, LlamaRow)
            self.put(index, row.tokens[-1], len(row.prompt) + len(row.tokens) - 1, [row.sequence], True)
        self.decode_batch(len(rows))
        for index, row in enumerate(rows):
            assert isinstance(row, LlamaRow)
            self._draw(row, index)

    def put(self, index: int, token: int, position: int, sequences: list[int], logits: bool) -> None:
        """Place a token in the batch: it belongs to these sequences, and its logits are wanted or not."""
        batch = self._batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = len(sequences)
        for number, sequence in enumerate(sequences):
            batch.seq_id[index][number] = sequence
        batch.logits[index] = logits

    def decode_batch(self, tokens: int) -> None:
        """Run the first `tokens` places of the batch."""
        self._batch.n_tokens = tokens
        self._check(lib.llama_decode(self._contexts.current, self._batch), tokens)

    def logits(self, index: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """A copy of the logits [vocabulary] at a place of the last batch."""
        import numpy as np

        pointer = lib.llama_get_logits_ith(self._contexts.current, index)
        return np.ctypeslib.as_array(pointer, shape=(self.info.vocabulary,)).copy()

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        """A call that scores, in a context of its own."""
        if not self._open:
            self._cache.forget_all()  # the answers' context goes
        self._contexts.have_scores(beside_answers=bool(self._open))
        try:
            yield
        finally:
            self._contexts.leave_scores()

    @contextmanager
    def computing_scores(self) -> Iterator[None]:
        """A block that computes part of a score; it ends inside llama.cpp where nobody wants the score any more."""
        with self._contexts.scoring():
            self._scores_under_way = True
            lib.llama_set_abort_callback(self._contexts.current, self._abort, None)
            try:
                yield
            finally:
                self._scores_under_way = False
                lib.llama_set_abort_callback(self._contexts.current, self._never_abort, None)

    def forget_scores(self) -> None:
        """Nothing of what was scored stays in the cache."""
        self._contexts.clear_scores()

    def _reason(self) -> str:
        return self._errors[-1] if self._errors else "no reason given"

    def _check(self, code: int, tokens: int) -> None:
        if code == ABORTED and self._scores_under_way:
            raise Cancelled
        if code != 0:
            raise RuntimeError(f"llama_decode answered {code} for {tokens} tokens: {self._reason()}")

    def likely(self, row: Row, token: int) -> TokenLogprob:
        """What was read when the token was drawn."""
        assert isinstance(row, LlamaRow)
        assert row.held is not None
        return row.held

    def is_end(self, token: int) -> bool:
        """Whether llama.cpp counts the token as an end of generation."""
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    def piece(self, token: int) -> bytes:
        """The bytes of a token; a control token's name."""
        return self._piece(token, special=True)

    def text(self, row: Row, token: int) -> str:
        """The characters that this token completes; control tokens read as nothing."""
        assert isinstance(row, LlamaRow)
        return row.decoder.feed(self._piece(token, special=False))

    def close_row(self, row: Row) -> None:
        """Free the row's sequence and sampler."""
        assert isinstance(row, LlamaRow)
        self._drop_sequence(row.sequence)
        lib.llama_sampler_free(row.sampler)
        self._open.remove(row)
        self._free.append(row.sequence)

    def memory(self) -> tuple[int, int]:
        """Resident bytes of this process, and the bytes of weights on the card."""
        info = getattr(self, "info", None)
        return int(psutil.Process().memory_info().rss), info.vram_bytes if info else 0

    def close(self) -> None:
        """Free the context and the model."""
        lib.llama_batch_free(self._batch)
        self._contexts.close()
        lib.llama_model_free(self._model)

    def _piece(self, token: int, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        size = lib.llama_token_to_piece(self._vocab, token, buffer, 64, 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = lib.llama_token_to_piece(self._vocab, token, buffer, -size, 0, special)
        return buffer.raw[: max(size, 0)]

    def _special(self, token: int) -> str:
        return self._piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def _is_aborted(self, data: object) -> bool:
        if self._scores_under_way:
            return self.pause.given_up()
        return self._aborting is not None and self._aborting.cancelled()


def _text(raw: bytes | None) -> str:
    return raw.decode(errors="replace") if raw else ""
