"""The four steps in order, over builds of one source: what the source says is asked once and kept."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from playground.catalogue.hub import Hub
from playground.catalogue.variants import Adapter, Base, Gguf
from playground.errors import ConfigError, VariantError, WorkerError
from playground.settings import Settings
from playground.system.progress import Tell
from training.export.parity import answers, files, numbers, text
from training.export.parity.sides import Bench, Side
from training.export.parity.source import Source
from training.export.parity.thresholds import WIDE, thresholds
from training.export.parity.verdict import Cause, Finding, Step, Verdict, verdict_of

Variant = Base | Adapter | Gguf
KINDS = ("merged", "gguf", "gptq", "adapter")
SHARES = {"files": 0.3, "text": 0.2, "numbers": 0.3, "answers": 0.2}
"""The four steps in order, cheapest first, with their parts of the time."""


@dataclass(frozen=True)
class Job:
    """One build to check, and the side that its numbers and answers are measured from."""

    built: Side
    parent: Side
    kind: str
    level: str
    progress: Callable[[float], None]

    @property
    def is_coarse(self) -> bool:
        """Return whether it lost precision on purpose, below 16 bit."""
        return self.kind == "gptq" or (self.kind == "gguf" and self.level.lower() not in WIDE)


@dataclass
class Session:
    """Checks builds of one source. A context manager: its workers end with it."""

    settings: Settings
    source_variant: str
    hub: Hub | None = None
    _folder: "tempfile.TemporaryDirectory[str]" = field(default_factory=lambda: tempfile.TemporaryDirectory("-madang"))
    _sides: dict[str, Side] = field(default_factory=dict)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *error: object) -> None:
        if "bench" in self.__dict__:
            self.bench.close()
        self._folder.cleanup()

    @cached_property
    def bench(self) -> Bench:
        """Return the source and the builds, ready to load."""
        return Bench(self.settings, self.source_variant, self.hub)

    @cached_property
    def source(self) -> Source:
        """Return the source's files."""
        loadable = self.bench.loadable(self.bench.source)
        return Source(Path(loadable.spec.path), Path(loadable.adapter) if loadable.adapter else None)

    @cached_property
    def _passages(self) -> list[str]:
        return self._side(self.bench.source).passages()

    def check(
        self,
        built: Variant,
        kind: str,
        level: str = "",
        reference: Variant | None = None,
        progress: Tell = lambda done, what: None,
    ) -> Verdict:
        """Return the verdict on one build; `reference` is the F16 build that a coarser one is measured from."""
        if kind not in KINDS:
            raise ConfigError(f"There is no export kind {kind!r}.", f"Known: {', '.join(KINDS)}.")
        findings, said, done = list[Finding](), dict[str, Any](), 0.0
        side, parent = self._side(built), self._side(reference or self.bench.source)
        for name, share in SHARES.items():
            progress(done, name)
            began = time.perf_counter()
            within = _within(progress, done, share, name)
            step = self._run(name, Job(side, parent, kind, level, within))
            done += share
            findings += step.findings
            said[name] = step.numbers | {"seconds": round(time.perf_counter() - began, 2)}
            if step.failed:
                break
        if rest := [name for name in SHARES if name not in said]:
            findings.append(Finding("pass", f"Not compared after that: {', '.join(rest)}."))
        self.bench.unload(side.variant)
        progress(1.0, "done")
        return verdict_of(findings, said)

    def _side(self, variant: Variant) -> Side:
        """Return the side of a variant, kept: an F16 build is checked first, then others are measured from it."""
        placed = variant if variant is self.bench.source else self.bench.place(variant)
        key = f"{placed.kind} {placed.source} {getattr(placed, 'file', '')}"
        if key not in self._sides:
            self._sides[key] = Side(self.bench, placed, Path(self._folder.name))
        return self._sides[key]

    def _run(self, name: str, job: Job) -> Step:
        """Run one step. A build that does not load, or whose engine dies, is a finding; faults of the source raise."""
        self._ask_source(name, job)
        steps = {"files": self._files, "text": self._text, "numbers": self._numbers, "answers": self._answers}
        step = Step()
        try:
            return steps[name](job)
        except WorkerError as error:
            cause: Cause = "vocabulary" if name == "text" else "weights"
            step.fail(cause, f"Its engine died over our {name}: {error.message}")
        except VariantError as error:
            step.fail("file", error.message)
        return step

    def _ask_source(self, name: str, job: Job) -> None:
        source = self._side(self.bench.source)
        if name == "files":
            assert self.source
        elif name == "text":
            source.reads()
        elif name == "numbers":
            job.parent.reading(self._passages)
        else:
            source.answers()

    def _files(self, job: Job) -> Step:
        variant, source = job.built.variant, self.source
        if job.kind == "gguf":
            path = Path(self.bench.loadable(variant).spec.path)
            return files.check_gguf(source, path, job.level, job.progress)
        check = files.check_adapter if job.kind == "adapter" else files.check_folder
        return check(source, variant.path, job.progress)

    def _text(self, job: Job) -> Step:
        return text.compare(self._side(self.bench.source).reads(), job.built.reads())

    def _numbers(self, job: Job) -> Step:
        parent = job.parent.reading(self._passages)
        bounds = thresholds().of_drift(job.kind, job.level, self.source.parameters)
        return numbers.compare(parent, job.built.reading(self._passages), bounds, job.is_coarse)

    def _answers(self, job: Job) -> Step:
        source, built = self._side(self.bench.source), job.built.answers()
        ours = source.answers()
        ids = zip(source.encode(ours.texts), source.encode(built.texts), strict=True)
        return answers.compare(ours, built, list(ids), job.is_coarse)


def _within(progress: Tell, done: float, share: float, name: str) -> Callable[[float], None]:
    return lambda fraction: progress(done + share * fraction, name)
