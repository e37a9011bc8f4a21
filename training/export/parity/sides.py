"""What one variant's worker says: texts, distributions, answers. Asked once a variant and kept for the session."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from playground.catalogue.variants import Adapter, Base, Gguf
from playground.measure import drift
from playground.measure.drift import Reading
from playground.measure.probe import Probe, probing
from training.export.parity.answers import Answers, answers
from training.export.parity.bench import Bench
from training.export.parity.text import Reads, reads

MOST_TOKENS = 700


class Side:
    """One variant of a bench, source or build. Its answers are computed when first asked for."""

    def __init__(self, bench: Bench, variant: Base | Adapter | Gguf, folder: Path) -> None:
        self.bench, self.variant = bench, variant
        self._folder = folder
        self._reads: Reads | None = None
        self._reading: Reading | None = None
        self._answers: Answers | None = None

    def reads(self) -> Reads:
        """The fixed prompts as it renders and encodes them."""
        if self._reads is None:
            with self.probe() as probe:
                words = probe.vocabulary()
                self._reads = reads(probe, words, self.bench.format_of(self.variant, words))
        return self._reads

    def passages(self) -> list[str]:
        """The fixed texts, shortest first, while they fit a budget of tokens; both languages are among the short ones.

        All of them, for a tokenizer that knows Korean; one that reads it byte by byte would take three times as long
        to say the same.
        """
        texts = drift.texts()
        sizes = {text: len(ids) for text, ids in zip(texts, self.encode(texts), strict=True)}
        chosen: list[str] = []
        for text in sorted(texts, key=lambda text: sizes[text]):
            if sum(sizes[one] for one in chosen) + sizes[text] <= MOST_TOKENS:
                chosen.append(text)
        return chosen or texts[:1]

    def reading(self, passages: list[str]) -> Reading:
        """Its distributions over the texts, in files: hundreds of MB for a large vocabulary."""
        if self._reading is None:
            with self.probe() as probe:
                ids = probe.encode(passages)
                probe.grow(max(map(len, ids)))
                self._reading = Reading(self.variant.name, ids, [self._logprobs(probe, row) for row in ids])
        return self._reading

    def answers(self) -> Answers:
        """Its greedy answers."""
        if self._answers is None:
            words = self.reads().words
            with self.probe() as probe:
                self._answers = answers(probe, self.bench.format_of(self.variant, words), words)
        return self._answers

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, nothing added."""
        with self.probe() as probe:
            return probe.encode(texts, add_special=False)

    @contextmanager
    def probe(self) -> Iterator[Probe]:
        """Its worker, which stays loaded between calls while there is room."""
        with probing(self.bench, self.variant.name) as probe:
            yield probe

    def _logprobs(self, probe: Probe, ids: list[int]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        file = Path(tempfile.mkdtemp(dir=self._folder)) / "logprobs.npy"
        probe.hold.call("logprobs", ids=ids, adapter=probe.loadable.adapter, file=str(file))
        rows: np.ndarray[Any, np.dtype[np.float32]] = np.load(file, mmap_mode="r")
        return rows
