"""An export from end to end: looked at first, then built, judged against its source, and put into the catalogue."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playground.catalogue.variants import Catalogue
from playground.errors import ConfigError, MadangError
from playground.settings import Settings
from playground.system.atomic import remove, room_for, sweep
from training.export import checking, exports, judging, origin, plan, registering
from training.export.building import DTYPES, Builder
from training.export.describing import Describer, Scores, no_scores
from training.export.exports import Asked, Export
from training.export.judging import Judge
from training.export.origin import UNSAFE, Origin
from training.export.plan import F16, Sizes, Wanted
from training.export.registering import Built
from training.export.shards import own_dtype
from training.export.watching import Progress

HEAVY = {"gptq": 20.0, "adapter": 0.1}
"""How long a format takes beside the others, for the progress bar."""
NO_ROOM = ", with --out DIR"


@dataclass(frozen=True)
class Options:
    """What an export may be asked beside its formats.

    `name` is what its files begin with, `base` the base's Hub id; `reuse`: one that is finished already will do.
    """

    out: Path | None = None
    name: str = ""
    dtype: Literal["", "bf16", "fp16"] = ""
    keep_f16: bool = False
    force: bool = False
    parity: bool = True
    imatrix: Path | None = None
    reuse: bool = False
    base: str = ""
    scores: Scores = no_scores


@dataclass(frozen=True)
class Prepared:
    """An export that can begin, or go on where `begun` says so. `ready`: nothing is left to be built or judged."""

    origin: Origin
    asked: Asked
    sizes: Sizes
    where: Path
    begun: Export | None
    options: Options
    ready: bool = False


@dataclass
class Outcome:
    """What came of it: a verdict by label (of artefacts that were judged), the variants, the labels that failed."""

    export: Export
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Labels whose parity failed."""
        return [label for label, verdict in self.verdicts.items() if verdict["verdict"] == "fail"]


def prepare(settings: Settings, source: str, wanted: Sequence[Wanted], options: Options) -> Prepared:
    """Find and check everything; raises for whatever could not be exported. Nothing is written."""
    if options.dtype and options.dtype not in DTYPES:
        raise ConfigError(f"--dtype {options.dtype}: merged weights are 16-bit.", f"Choose {' or '.join(DTYPES)}.")
    if options.name and UNSAFE.search(options.name):
        raise ConfigError(f"--name {options.name!r} is no file name.", "Use letters, digits and . _ - alone.")
    if options.imatrix and not options.imatrix.expanduser().is_file():
        raise ConfigError(f"--imatrix {options.imatrix} is no file.", "Give a text to measure on, some pages long.")
    if options.keep_f16 and any(one.kind == "gguf" for one in wanted):
        wanted = tuple(dict.fromkeys([*wanted, F16]))
    found = origin.find(settings, source)
    checking.check_source(found)
    asked = Asked(
        source=source,
        variant=found.variant.name,
        run=found.run.name if found.run else "",
        stem=options.name or found.stem,
        wanted=tuple(wanted),
        dtype=options.dtype or _dtype(found, wanted),
        imatrix=str(options.imatrix.expanduser().resolve()) if options.imatrix else "",
        mark=exports.mark(found.adapter_folder, found.base_folder),
    )
    out = options.out.expanduser().resolve() if options.out else None
    done = exports.finished(settings, asked, out) if options.reuse else None
    begun = done or exports.unfinished(settings, asked, out)
    ready = done is not None and not (options.parity and _unjudged(done, wanted))
    if not ready:
        checking.check_formats(found, wanted)
    where = begun.folder if begun else out or exports.place(settings, asked.stem)
    if begun is None:
        checking.check_free(where, asked.stem, wanted, options.force)
    sizes = plan.sizes(found.base_folder, found.adapter_folder, wanted)
    return Prepared(found, asked, sizes, where, begun, options, ready)


def _unjudged(export: Export, wanted: Sequence[Wanted]) -> list[str]:
    verdicts = export.verdicts()
    return [one.label for one in wanted if one.kind != "adapter" and one.label not in verdicts]


def make(settings: Settings, prepared: Prepared, progress: Progress = lambda fraction, words: None) -> Outcome:
    """Build what is missing, judge it, register what passed. Killed at any point, the next call goes on."""
    if prepared.ready and prepared.begun:
        return _as_it_is(settings, prepared.begun)
    made_here = not prepared.where.exists()
    export = prepared.begun or _begin(prepared)
    with export.locked():
        for folder in (export.folder, export.work):
            sweep(folder)
        try:
            need = checking.missing_bytes(export, prepared.asked.wanted, prepared.sizes.peak)
            with room_for(need, export.folder, "The export", NO_ROOM):
                return _Making(settings, prepared, export, progress).run()
        except MadangError as error:
            _ended(export, prepared, error, made_here)
            raise
        except KeyboardInterrupt:
            export.tell(status="failed", message="Stopped.", hint="The same command goes on.", ended=time.time())
            raise


def _as_it_is(settings: Settings, export: Export) -> Outcome:
    """What came of an export that is finished."""
    names = registering.by_place(Catalogue.load(settings))
    places = {one.label: export.path(one).resolve() for one in export.asked().wanted}
    variants = {label: names[path] for label, path in places.items() if path in names}
    return Outcome(export, export.verdicts(), variants)


def _ended(export: Export, prepared: Prepared, error: MadangError, made_here: bool) -> None:
    """After an error what was built on the way goes, since it may be large; and the folder, if nothing came of it."""
    remove(export.work)
    if any(export.path(wanted).exists() for wanted in prepared.asked.wanted):
        export.tell(status="failed", message=error.message, hint=error.hint, ended=time.time())
    elif made_here:
        remove(export.folder)
    else:
        export.forget()


def _begin(prepared: Prepared) -> Export:
    where, asked = prepared.where, prepared.asked
    if (where / exports.ASKED).exists():
        with Export(where).locked():
            pass  # not while another process builds there
    for old in checking.check_free(where, asked.stem, asked.wanted, prepared.options.force):
        remove(old)
    return exports.begin(where, asked)


def _dtype(found: Origin, wanted: Sequence[Wanted]) -> str:
    """The base's own 16-bit type for weights to be loaded; float16, which is finer, where only GGUFs come of them."""
    if any(one.kind in ("merged", "gptq") for one in wanted):
        return "bf16" if own_dtype(found.base_folder) == "BF16" else "fp16"
    return "fp16"


class _Making:
    """One pass over the artefacts; knows how far it is."""

    def __init__(self, settings: Settings, prepared: Prepared, export: Export, progress: Progress) -> None:
        self._settings, self._prepared, self._export = settings, prepared, export
        self._origin, self._wanted = prepared.origin, prepared.asked.wanted
        self._builder = Builder(export, prepared.origin, prepared.asked, prepared.sizes)
        self._outcome = Outcome(export)
        self._judge: Judge | None = None
        self._progress, self._done, self._told = progress, 0.0, 0.0
        self._total = sum(HEAVY.get(one.kind, 2.0) + 1 for one in self._wanted) + 4

    def run(self) -> Outcome:
        """Everything, in order."""
        self._export.tell(status="running", message="", hint="", ended=None)
        with ExitStack() as stack:
            found = judging.judge(self._settings, self._origin.variant.name) if self._prepared.options.parity else None
            self._judge = stack.enter_context(found) if found else None
            self._notes()
            self._build()
        for number, wanted in enumerate(self._present("gguf")):
            self._builder.modelfile(wanted, number)
        self._register()
        self._describe()
        return self._end()

    def _build(self) -> None:
        for wanted in self._wanted:
            if wanted.quantized and not self._parent_holds():
                continue
            if self._builder.build(wanted, self._telling(HEAVY.get(wanted.kind, 2.0))):
                self._built(wanted)
            self._hold(wanted, self._export.path(wanted))

    def _parent_holds(self) -> bool:
        """Make the f16 GGUF and judge it: where it fails, so do all that are quantized from it."""
        if self._builder.convert(self._telling(2.0)):
            self._built(F16)
        self._hold(F16, self._builder.f16)
        return F16.label not in self._outcome.failed or self._prepared.options.force

    def _built(self, wanted: Wanted) -> None:
        """Write it down; a verdict on what has been built anew since says nothing."""
        self._export.happened("built", f"Built {wanted.place(self._prepared.asked.stem)}.")
        verdicts = self._export.verdicts()
        if verdicts.pop(wanted.label, None):
            self._export.write(exports.PARITY, exports.as_text(verdicts))

    def _hold(self, wanted: Wanted, path: Path) -> None:
        if self._judge is None or wanted.kind == "adapter" or wanted.label in self._outcome.verdicts:
            return
        verdict = self._export.verdicts().get(wanted.label)
        if verdict is None or verdict["verdict"] == "fail":
            variant = registering.built(self._origin, wanted, path)
            verdict = self._judge.verdict(variant, wanted, self._reference(wanted), self._telling(1.0))
            self._export.judge(wanted.label, verdict)
            self._export.happened("parity", f"{wanted.label}: {verdict['verdict']}.", label=wanted.label)
        self._outcome.verdicts[wanted.label] = verdict

    def _reference(self, wanted: Wanted) -> Built | None:
        """What a quantization is held against: the f16 GGUF it was made from; everything else: the source itself."""
        if not wanted.quantized:
            return None
        return registering.built(self._origin, F16, self._builder.f16)

    def _present(self, *kinds: str) -> list[Wanted]:
        return [one for one in self._wanted if one.kind in kinds and self._export.path(one).exists()]

    def _register(self) -> None:
        force = self._prepared.options.force
        orphaned = F16.label in self._outcome.failed
        for wanted in self._present("merged", "gguf", "gptq"):
            refused = wanted.label in self._outcome.failed or (orphaned and wanted.quantized)
            if force or not refused:
                variant = registering.built(self._origin, wanted, self._export.path(wanted))
                self._outcome.variants[wanted.label] = registering.register(self._settings, variant)

    def _describe(self) -> None:
        options, catalogue = self._prepared.options, Catalogue.load(self._settings)
        Describer(self._export, self._origin, catalogue, options.scores, options.base).write(self._wanted)

    def _end(self) -> Outcome:
        names = tuple(self._outcome.variants.values())
        failed = [] if self._prepared.options.force else self._outcome.failed
        if failed:
            message = f"Parity failed: {', '.join(failed)}."
            self._export.tell(status="failed", message=message, variants=names, ended=time.time())
        else:
            self._builder.clear()
            self._export.tell(status="done", fraction=1.0, stage="", variants=names, ended=time.time())
        self._progress(1.0, "Ready")
        return self._outcome

    def _notes(self) -> None:
        said = {event["message"] for event in self._export.events()}
        notes = self._origin.notes
        if self._prepared.options.parity and self._judge is None:
            notes.append("Parity was not checked: this version brings no checker.")
        for note in notes:
            if note not in said:
                self._export.happened("note", note)

    def _telling(self, share: float) -> Progress:
        """Progress of one step as part of the whole; written down for those who watch the folder."""
        begun, self._done = self._done, self._done + share

        def tell(fraction: float, words: str) -> None:
            self._told = min(0.99, max(self._told, (begun + share * fraction) / self._total))
            self._export.tell(fraction=round(self._told, 4), stage=words)
            self._progress(self._told, words)

        return tell
