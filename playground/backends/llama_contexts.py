"""A llama.cpp model's contexts: answers have one, scores have one, and each exists only while it is needed.

On a CPU flash attention reads prompts a seventh faster, and after 1,000 tokens makes the next ones at half the speed:
scores go with it, answers go without. A score that comes while answers are under way takes a context beside theirs, so
that neither waits for the other; otherwise one is freed before the other is made, as there need not be room for both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np

from playground.allowance import Cancelled
from playground.backends.logprobs import Floats
from playground.errors import VariantError
from playground.wording import worded

BATCH = 512
"""Tokens in one `llama_decode` at most."""
ABORTED = 2


class Contexts:
    """Made for one model. `current` and `memory` are those in use: the answers', within `scoring` the scores'."""

    def __init__(self, model: Any, name: str, tokens: int, sequences: int, reason: Callable[[], str]) -> None:
        self._model, self._name, self._tokens, self._sequences, self._reason = model, name, tokens, sequences, reason
        self._vocabulary: int = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        self._batch = lib.llama_batch_init(BATCH, 0, sequences)
        self.threads = 1
        self.answers_flash = False
        self._answers: Any = None
        self._scores: Any = None
        self._scores_kept = False
        """Whether a call is under way that needs its context until it ends."""
        self.current: Any = None
        self.memory: Any = None
        self._given_up: Callable[[], bool] = lambda: False
        self._abort = lib.ggml_abort_callback(lambda data: self._given_up())
        self._never_abort = lib.ggml_abort_callback()

    def put(self, index: int, token: int, position: int, sequences: list[int], logits: bool) -> None:
        """Place a token in the batch: it belongs to these sequences, and its logits are wanted or not."""
        batch = self._batch
        batch.token[index] = token
        batch.pos[index] = position
        batch.n_seq_id[index] = len(sequences)
        for number, sequence in enumerate(sequences):
            batch.seq_id[index][number] = sequence
        batch.logits[index] = logits

    def decode(self, tokens: int, given_up: Callable[[], bool] | None = None) -> None:
        """Run the first `tokens` places of the batch. Raises Cancelled where `given_up` says so in the middle of it."""
        self._batch.n_tokens = tokens
        if given_up is None:  # llama.cpp asks thousands of times: only where somebody may leave
            code = lib.llama_decode(self.current, self._batch)
        else:
            self._given_up = given_up
            lib.llama_set_abort_callback(self.current, self._abort, None)
            code = lib.llama_decode(self.current, self._batch)
            lib.llama_set_abort_callback(self.current, self._never_abort, None)
        if code == ABORTED:
            raise Cancelled
        if code != 0:
            raise RuntimeError(f"llama_decode answered {code} for {tokens} tokens: {self._reason()}")

    def logits(self, index: int) -> Floats:
        """Return a copy of the logits [vocabulary] at a place of the last batch."""
        pointer = lib.llama_get_logits_ith(self.current, index)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary,)).copy()

    def have_answers(self) -> None:
        """Have the context for answers; an idle one for scores goes first. Raises VariantError."""
        if self._answers is None:
            if not self._scores_kept:
                self._free_scores()
            self._answers = self._make(self.answers_flash)
        self._use(self._answers)

    def have_scores(self, beside_answers: bool) -> None:
        """Have the context for scores; where no answer is open, theirs goes first. Raises VariantError."""
        if not beside_answers and self._scores is None:
            self._free_answers()
        if self._scores is None:
            self._scores = self._make(flash=True)
        self._scores_kept = True

    def leave_scores(self) -> None:
        """Keep the scores' context for the next call, but not beside one for answers: a call has ended."""
        self._scores_kept = False
        if self._answers is not None:
            self._free_scores()

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Compute with the scores' context in this block."""
        before = self.current, self.memory
        self._use(self._scores)
        try:
            yield
        finally:
            self.current, self.memory = before

    def clear_scores(self) -> None:
        """Forget what the scores' context holds."""
        if self._scores is not None:
            lib.llama_memory_clear(lib.llama_get_memory(self._scores), True)

    def use_threads(self, threads: int) -> None:
        """Compute with so many CPU threads from now on."""
        self.threads = threads
        for context in (self._answers, self._scores):
            if context is not None:
                lib.llama_set_n_threads(context, threads, threads)

    def close(self) -> None:
        """Free them and the batch."""
        lib.llama_batch_free(self._batch)
        self._free_answers()
        self._free_scores()

    def _use(self, context: Any) -> None:
        self.current, self.memory = context, lib.llama_get_memory(context)

    def _free_answers(self) -> None:
        if self._answers is not None:
            lib.llama_free(self._answers)
            self._answers = self.current = self.memory = None

    def _free_scores(self) -> None:
        if self._scores is not None:
            lib.llama_free(self._scores)
            self._scores = None

    def _make(self, flash: bool) -> Any:
        params = lib.llama_context_default_params()
        params.n_ctx = self._tokens
        params.n_batch = params.n_ubatch = min(BATCH, self._tokens)
        params.n_seq_max = self._sequences
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = self.threads
        if not flash:
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise VariantError(
                worded("llama_contexts.llama_cpp_cannot", tokens=self._tokens, name=self._name, reason=self._reason()),
            )
        return context
