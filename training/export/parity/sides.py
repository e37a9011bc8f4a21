"""The variants of one check, loaded as in Chat, and what the worker of each says, which is asked once and kept."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from playground.catalogue.hub import Hub, HuggingFaceHub
from playground.catalogue.variants import Adapter, Base, Catalogue, Gguf
from playground.compare import Playground
from playground.errors import ConfigError, VariantError
from playground.measure import drift
from playground.measure.drift import Reading
from playground.measure.probe import Probe, probing
from playground.prompts import PromptFormat, choose
from playground.protocol import Vocabulary
from playground.settings import Settings
from playground.workers.loadable import Loadable, Loader
from training.export.parity.answers import Answers, answers
from training.export.parity.text import Reads, reads

MOST_TOKENS = 700


class Bench(Playground):
    """A playground whose catalogue also holds what is being checked. `close` ends its workers."""

    def __init__(self, settings: Settings, source: str, hub: Hub | None = None) -> None:
        super().__init__(settings, hub or HuggingFaceHub())
        self._catalogue = Catalogue.load(settings)
        self.source = self._exact(source)

    @property
    def catalogue(self) -> Catalogue:
        """Return the user's catalogue, with the source in fp32 and the builds."""
        return self._catalogue

    def _exact(self, name: str) -> Base | Adapter:
        """Return the source, with what it stands on in fp32: the yardstick has no rounding of its own."""
        variant = self._catalogue.get(name)
        if not isinstance(variant, Base | Adapter):
            what = "a GGUF build itself" if isinstance(variant, Gguf) else "answered elsewhere"
            raise ConfigError(f"{name!r} is {what}.", "Name the adapter or the base it was made from.")
        base = self._catalogue.base_of(variant)
        assert base is not None
        self._put(base.model_copy(update={"dtype": "fp32", "load_in_4bit": False}))
        found = self._catalogue.get(name)
        assert isinstance(found, Base | Adapter)
        return found

    def _put(self, variant: Base | Adapter | Gguf) -> None:
        self._catalogue = self._catalogue.with_variant(variant)

    def place(self, built: Base | Adapter | Gguf) -> Base | Adapter | Gguf:
        """Add a build, by a name of its own so that it never stands in for its source; folders run in fp32."""
        named = built if built.name != self.source.name else built.model_copy(update={"name": f"{built.name}-built"})
        if isinstance(named, Base):
            named = named.model_copy(update={"dtype": "fp32"})
        self._put(named)
        return named

    def loadable(self, variant: Base | Adapter | Gguf) -> Loadable:
        """Return what a worker would load of a variant, its files checked and, where need be, downloaded."""
        return Loader(self.settings, self.catalogue, self.hub).loadable(variant)

    def unload(self, variant: Base | Adapter | Gguf) -> None:
        """Stop the worker of a variant, if it has one of its own."""
        for loaded in self.pool.loaded():
            if loaded.spec.name == variant.name:
                self.pool.unload(loaded.spec)

    def format_of(self, variant: Base | Adapter | Gguf, words: Vocabulary) -> PromptFormat | None:
        """Return the template that a variant is asked with; None where it has none."""
        try:
            return choose(variant.name, words.template, self.catalogue.prompt_format(variant))
        except VariantError:
            return None


class Side:
    """One variant of a bench, source or build. Its answers are computed when first asked for."""

    def __init__(self, bench: Bench, variant: Base | Adapter | Gguf, folder: Path) -> None:
        self.bench, self.variant = bench, variant
        self._folder = folder
        self._reads: Reads | None = None
        self._reading: Reading | None = None
        self._answers: Answers | None = None

    def reads(self) -> Reads:
        """Return the fixed prompts as it renders and encodes them."""
        if self._reads is None:
            with self.probe() as probe:
                words = probe.vocabulary()
                self._reads = reads(probe, words, self.bench.format_of(self.variant, words))
        return self._reads

    def passages(self) -> list[str]:
        """Return the fixed texts, shortest first, while they fit a budget of tokens; short ones are in both languages.

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
        """Return its distributions over the texts, in files: hundreds of MB for a large vocabulary."""
        if self._reading is None:
            with self.probe() as probe:
                ids = probe.encode(passages)
                probe.grow(max(map(len, ids)))
                self._reading = Reading(self.variant.name, ids, [self._logprobs(probe, row) for row in ids])
        return self._reading

    def answers(self) -> Answers:
        """Return its greedy answers."""
        if self._answers is None:
            words = self.reads().words
            with self.probe() as probe:
                self._answers = answers(probe, self.bench.format_of(self.variant, words), words)
        return self._answers

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the token ids of texts, nothing added."""
        with self.probe() as probe:
            return probe.encode(texts, add_special=False)

    @contextmanager
    def probe(self) -> Iterator[Probe]:
        """Yield its worker, which stays loaded between calls while there is room."""
        with probing(self.bench, self.variant.name) as probe:
            yield probe

    def _logprobs(self, probe: Probe, ids: list[int]) -> "np.ndarray[Any, np.dtype[np.float32]]":
        file = Path(tempfile.mkdtemp(dir=self._folder)) / "logprobs.npy"
        probe.hold.call("logprobs", ids=ids, file=str(file))
        rows: np.ndarray[Any, np.dtype[np.float32]] = np.load(file, mmap_mode="r")
        return rows
