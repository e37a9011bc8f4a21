"""A loaded variant for evaluation: tokens, scores of choices, distributions, raw completions.

It is the same worker and the same backend as in Chat, so that what is measured is what a person talks to.
"""

import queue
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.compare import Playground
from playground.errors import ContextError, VariantError, WorkerError
from playground.events import Event, Failed, Finished
from playground.presets import Sampling
from playground.protocol import Choices, ModelInfo, RowRequest, Scored, Vocabulary
from playground.system.progress import Tell
from playground.wording import worded
from playground.workers.loadable import Loadable, Loader
from playground.workers.pool import Hold, WorkerPool
from playground.workers.process import WorkerProcess
from playground.workers.tickets import Ticket

if TYPE_CHECKING:
    import numpy as np

CONTEXT_STEP = 512


@dataclass
class Probe:
    """One variant's worker, reserved. Make it with `probing`."""

    variant: str
    pool: WorkerPool
    loadable: Loadable
    hold: Hold

    @property
    def info(self) -> ModelInfo:
        """What the loaded model says of itself."""
        return self.hold.info

    @property
    def pid(self) -> int:
        """The id of the worker's process, whose memory is the model's; raises VariantError for a remote variant."""
        if not isinstance(self.hold.worker, WorkerProcess):
            raise VariantError(
                worded("probe.runs_elsewhere_memory", variant=self.variant),
            )
        return self.hold.worker.pid

    def vocabulary(self) -> Vocabulary:
        """Return special tokens and chat template."""
        return Vocabulary.model_validate(self.hold.call("vocabulary"))

    def encode(self, texts: Sequence[str], add_special: bool | None = None) -> list[list[int]]:
        """Return token ids of each text; None adds BOS where the tokenizer does by itself, but never a second."""
        ids: list[list[int]] = self.hold.call("encode", texts=list(texts), add_special=add_special)
        return ids

    def score(self, questions: Sequence[Choices]) -> Scored:
        """Return log-probabilities in nats of every choice; each question must fit the context (see `grow`)."""
        rows = [question.model_dump() for question in questions]
        return Scored.model_validate(self.hold.call("score", questions=rows))

    def logprobs(self, ids: Sequence[int]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Return log-probabilities [tokens, vocabulary] in nats of what follows each token."""
        import numpy as np

        with tempfile.TemporaryDirectory(prefix="madang-") as folder:
            file = str(Path(folder) / "logprobs.npy")
            self.hold.call("logprobs", ids=list(ids), file=file)
            result: np.ndarray[Any, np.dtype[np.float32]] = np.load(file)
        return result

    def complete(self, texts: Sequence[str], sampling: Sampling, apart: bool = False) -> Iterator[tuple[int, Finished]]:
        """Yield raw completions with the index of their text, as they end; all rows decode together.

        `apart`: their thoughts stand apart, as in a chat.
        """
        events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()

        def ticket(number: int) -> Ticket:
            return Ticket(self.variant, lambda event: events.put((number, event)))

        adapter = self.loadable.adapter
        shared = RowRequest(variant=self.variant, sampling=sampling, adapter=adapter, apart=apart)
        rows = [shared.model_copy(update={"text": text}) for text in texts]
        self.hold.submit([(ticket(number), row) for number, row in enumerate(rows)])
        unfinished = len(rows)
        while unfinished:
            number, event = events.get()
            if isinstance(event, Failed):
                raise WorkerError(event.message, event.hint)
            if isinstance(event, Finished):
                unfinished -= 1
                yield number, event

    def grow(self, tokens: int) -> None:
        """Make room for a context of `tokens`: llama.cpp reserves it at loading, so its worker starts again."""
        if tokens <= self.info.context:
            return
        if tokens > self.info.trained_context:
            raise ContextError(
                worded(
                    "probe.tokens_asked_trained",
                    tokens=tokens,
                    variant=self.variant,
                    trained_context=self.info.trained_context,
                ),
            )
        if self.loadable.spec.engine == "transformers":
            return  # its passes take what room they need
        wanted = min(-(-tokens // CONTEXT_STEP) * CONTEXT_STEP, self.info.trained_context)
        spec = self.loadable.spec.model_copy(update={"context": wanted})
        self.hold.release()
        self.pool.unload(self.loadable.spec)
        self.loadable = replace(self.loadable, spec=spec)
        self.hold = self.pool.hold(spec, adapter=self.loadable.adapter)


@contextmanager
def probing(playground: Playground, variant: str, progress: Tell = lambda done, what: None) -> Iterator[Probe]:
    """Fetch and check a variant's files, load it, and keep it from eviction for the block."""
    loader = Loader(playground.settings, playground.catalogue, playground.hub)
    loadable = loader.loadable(loader.catalogue.get(variant), progress)
    hold = playground.pool.hold(loadable.spec, adapter=loadable.adapter)
    probe = Probe(variant, playground.pool, loadable, hold)
    try:
        yield probe
    finally:
        probe.hold.release()
