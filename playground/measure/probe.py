"""A loaded variant that answers for evaluation: tokens, scores of choices, distributions, raw completions.

The same worker and the same backend as in Chat, so what is measured is what a person talks to.
"""

import queue
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.compare import Playground
from playground.errors import ContextError, VariantError, WorkerError
from playground.events import Event, Failed, Finished
from playground.presets import Sampling
from playground.protocol import Choices, ModelInfo, RowRequest, Scored, Vocabulary
from playground.workers.loadable import Loadable, Loader
from playground.workers.pool import AnyWorker, WorkerPool
from playground.workers.process import Worker

if TYPE_CHECKING:
    import numpy as np

CONTEXT_STEP = 512


class _Patience:
    """Waits for as long as it takes."""

    def queued(self, behind: str) -> None:
        """Others are answering."""

    def loading(self) -> None:
        """The model loads."""

    def given_up(self) -> bool:
        """Never."""
        return False


@dataclass
class Probe:
    """One variant's worker, reserved. Make it with `probing`."""

    variant: str
    pool: WorkerPool
    loadable: Loadable
    worker: AnyWorker

    @property
    def info(self) -> ModelInfo:
        """What the loaded model says of itself."""
        assert self.worker.info is not None
        return self.worker.info

    @property
    def pid(self) -> int:
        """The worker's process, whose memory is the model's; a remote variant has none here."""
        if not isinstance(self.worker, Worker):
            raise VariantError(
                f"{self.variant} runs elsewhere: its memory cannot be measured from here.",
                "Measure it where it runs, or name a variant whose files are on this machine.",
            )
        return self.worker.pid

    def vocabulary(self) -> Vocabulary:
        """Special tokens and chat template."""
        return Vocabulary.model_validate(self.worker.call("vocabulary"))

    def encode(self, texts: Sequence[str], add_special: bool | None = None) -> list[list[int]]:
        """Token ids of each text; None adds BOS where the tokenizer does by itself, but never a second."""
        ids: list[list[int]] = self.worker.call("encode", texts=list(texts), add_special=add_special)
        return ids

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Log-probabilities in nats of every choice; each question must fit the context (see `grow`)."""
        rows = [question.model_dump() for question in questions]
        return Scored.model_validate(self.worker.call("score", questions=rows, adapter=self.loadable.adapter))

    def logprobs(self, ids: Sequence[int]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Log-probabilities [tokens, vocabulary] in nats of what follows each token."""
        import numpy as np

        with tempfile.TemporaryDirectory(prefix="madang-") as folder:
            file = str(Path(folder) / "logprobs.npy")
            self.worker.call("logprobs", ids=list(ids), adapter=self.loadable.adapter, file=file)
            result: np.ndarray[Any, np.dtype[np.float32]] = np.load(file)
        return result

    def complete(self, texts: Sequence[str], sampling: Sampling) -> Iterator[tuple[int, Finished]]:
        """Raw completions, with their index, as they end; all rows decode together."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        rows = [self._row(number, text, sampling) for number, text in enumerate(texts)]
        self.worker.ask(rows, events.put)
        for _ in rows:
            event = _end(events)
            if isinstance(event, Failed):
                raise WorkerError(event.message, event.hint)
            yield int(event.variant), event

    def _row(self, number: int, text: str, sampling: Sampling) -> RowRequest:
        return RowRequest(
            id=f"probe-{self.variant}-{number}",
            variant=str(number),
            text=text,
            sampling=sampling,
            adapter=self.loadable.adapter,
        )

    def grow(self, tokens: int) -> None:
        """Make room for a context of `tokens`: llama.cpp reserves it at loading, so its worker starts again."""
        if tokens <= self.info.context:
            return
        if tokens > self.info.trained_context:
            raise ContextError(
                f"{tokens} tokens are asked of {self.variant}, which was trained for {self.info.trained_context}.",
                "Use fewer shots or shorter documents.",
            )
        if self.loadable.spec.engine == "transformers":
            return  # its passes take what room they need
        wanted = min(-(-tokens // CONTEXT_STEP) * CONTEXT_STEP, self.info.trained_context)
        spec = self.loadable.spec.model_copy(update={"context": wanted})
        self.pool.release(self.worker)
        self.pool.unload(self.loadable.spec)
        self.loadable = Loadable(spec, self.loadable.adapter, self.loadable.why_not_shared)
        self.worker = self.pool.hold(spec, _Patience())


def _end(events: "queue.SimpleQueue[Event]") -> Finished | Failed:
    while True:
        event = events.get()
        if isinstance(event, Finished | Failed):
            return event


@contextmanager
def probing(
    playground: Playground, variant: str, progress: Callable[[float, str], None] = lambda done, what: None
) -> Iterator[Probe]:
    """A probe of a variant: files fetched and checked, model loaded, kept from eviction for the block."""
    loader = Loader(playground.settings, playground.catalogue, playground.hub)
    loadable = loader.loadable(loader.catalogue.get(variant), progress)
    probe = Probe(variant, playground.pool, loadable, playground.pool.hold(loadable.spec, _Patience()))
    try:
        yield probe
    finally:
        playground.pool.release(probe.worker)
