"""A llama.cpp model and its contexts: answers have one, scores have one, and each exists only while it is needed.

On a CPU flash attention reads prompts a seventh faster, and after 1,000 tokens makes the next ones at half the speed:
scores go with it, answers go without. A score that comes while answers are under way takes a context beside theirs, so
that neither waits for the other; otherwise one is freed before the other is made, as there need not be room for both.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp.llama_cpp as lib

from playground.errors import VariantError
from playground.protocol import ModelSpec

BATCH = 512
"""Tokens in one `llama_decode` at most."""
ALL_LAYERS = 10_000


def load_model(spec: ModelSpec, errors: Sequence[str]) -> Any:
    """A spec's file, loaded. `errors`: what llama.cpp has logged. Raises VariantError with its reason."""
    params = lib.llama_model_default_params()
    on_card = bool(lib.llama_supports_gpu_offload())
    params.n_gpu_layers = 0 if not on_card else ALL_LAYERS if spec.gpu_layers == "auto" else spec.gpu_layers
    model = lib.llama_model_load_from_file(os.fsencode(spec.path), params)
    if not model:
        reason = errors[0] if errors else "llama.cpp gave no reason"
        raise VariantError(f"llama.cpp cannot load {spec.path}: {reason}.", "Download or export the file again.")
    return model


class Contexts:
    """Made for one model. `current` and `memory` are those in use: the answers', within `scoring` the scores'."""

    def __init__(self, model: Any, name: str, tokens: int, sequences: int, reason: Callable[[], str]) -> None:
        self._model, self._name, self._tokens, self._sequences, self._reason = model, name, tokens, sequences, reason
        self.threads = 1
        self.answers_flash = False
        self._answers: Any = None
        self._scores: Any = None
        self._scores_kept = False
        """Whether a call is under way that needs its context until it ends."""
        self.current: Any = None
        self.memory: Any = None

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
        """A call has ended: its context stays for the next one, but not beside one for answers."""
        self._scores_kept = False
        if self._answers is not None:
            self._free_scores()

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """A block that computes with the scores' context."""
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
        """Free them."""
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
                f"llama.cpp cannot make a context of {self._tokens} tokens for {self._name}: {self._reason()}.",
                "Lower `context` in its catalogue row.",
            )
        return context
