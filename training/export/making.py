"""Makes an export that was prepared: builds its artefacts, judges them, and puts them into the catalogue."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from playground.catalogue.variants import Catalogue
from playground.errors import MadangError
from playground.settings import Settings
from playground.system.atomic import remove, room_for, sweep
from playground.system.progress import Tell
from training.export import exports, parity, preparing, registering
from training.export.building import Builder
from training.export.describing import Describer
from training.export.exports import Export
from training.export.parity import Verdict
from training.export.plan import F16, Wanted
from training.export.preparing import Prepared
from training.export.registering import Built

if TYPE_CHECKING:
    from training.export.parity.sessions import Session

HEAVY = {"gptq": 20.0, "adapter": 0.1}
"""How long a format takes beside the others, for the progress bar."""
NO_ROOM = ", with --out DIR"


@dataclass
class Made:
    """A finished export: the verdicts on its artefacts and the variants that they became, both by label."""

    export: Export
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """The labels of artefacts that failed parity."""
        return [label for label, verdict in self.verdicts.items() if verdict.verdict == "fail"]

    def refused(self, wanted: Sequence[Wanted], force: bool) -> list[str]:
        """The labels of what is neither registered nor pushed: what failed, and what was made of an F16 that failed."""
        orphaned = [one.label for one in wanted if one.quantized and F16.label in self.failed]
        return [] if force else [*self.failed, *orphaned]


def make(settings: Settings, prepared: Prepared, progress: Tell = lambda fraction, words: None) -> Made:
    """Build what is missing, judge it, register what passed. Killed at any point, the next call goes on."""
    if prepared.ready and prepared.begun:
        return _as_it_is(settings, prepared.begun)
    made_here = not prepared.where.exists()
    export = prepared.begun or _begin(prepared)
    with export.locked():
        for folder in (export.folder, export.work):
            sweep(folder)
        try:
            need = preparing.missing_bytes(export, prepared.asked.wanted, prepared.sizes.peak)
            with room_for(need, export.folder, "The export", NO_ROOM):
                return _Pass(settings, prepared, export, progress).run()
        except MadangError as error:
            _ended(export, prepared, error, made_here)
            raise
        except KeyboardInterrupt:
            export.end("stopped", "Stopped.", "The same command goes on.")
            raise


def _as_it_is(settings: Settings, export: Export) -> Made:
    """Return what came of an export that is finished."""
    names = registering.by_place(Catalogue.load(settings))
    places = {one.label: export.path(one).resolve() for one in export.asked().wanted}
    variants = {label: names[path] for label, path in places.items() if path in names}
    return Made(export, export.verdicts(), variants)


def _ended(export: Export, prepared: Prepared, error: MadangError, made_here: bool) -> None:
    """Clean up after an error: remove what was built on the way, and the whole folder if nothing came of it."""
    remove(export.work)
    if any(export.path(wanted).exists() for wanted in prepared.asked.wanted):
        export.end("error", error.message, error.hint)
    elif made_here:
        remove(export.folder)
    else:
        export.forget()


def _begin(prepared: Prepared) -> Export:
    """Begin a new export; with --force in place of what lies there, but not while another process builds there."""
    where, asked = prepared.where, prepared.asked
    if (where / exports.ASKED).exists():
        with Export(where).locked():
            pass
    for old in preparing.check_free(where, asked.stem, asked.wanted, prepared.options.force):
        remove(old)
    return exports.begin(where, asked)


class _Pass:
    """One pass over the artefacts of an export, which keeps count of how far it is."""

    def __init__(self, settings: Settings, prepared: Prepared, export: Export, progress: Tell) -> None:
        self._settings, self._prepared, self._export = settings, prepared, export
        self._origin, self._wanted = prepared.origin, prepared.asked.wanted
        self._builder = Builder(export, prepared.origin, prepared.asked, prepared.sizes)
        self._made = Made(export)
        self._session: Session | None = None
        self._progress, self._done, self._told = progress, 0.0, 0.0
        self._total = sum(HEAVY.get(one.kind, 2.0) + 1 for one in self._wanted) + 4

    def run(self) -> Made:
        """Do everything, in order."""
        self._export.tell(status="running", outcome="", message="", hint="", ended=None)
        judged = self._prepared.options.parity
        session: AbstractContextManager[Session | None] = (
            parity.session(self._settings, self._origin.variant.name) if judged else nullcontext()
        )
        with session as self._session:
            self._notes()
            self._build()
        for number, wanted in enumerate(self._present("gguf")):
            self._builder.modelfile(wanted, number)
        self._register()
        self._describe()
        return self._end()

    def _build(self) -> None:
        for wanted in self._wanted:
            if wanted.quantized and not self._parent_passes():
                continue
            if self._builder.build(wanted, self._telling(HEAVY.get(wanted.kind, 2.0))):
                self._built(wanted)
            self._compare(wanted, self._export.path(wanted))

    def _parent_passes(self) -> bool:
        """Make the f16 GGUF and judge it: where it fails, nothing is quantized from it, unless forced."""
        if self._builder.convert(self._telling(2.0)):
            self._built(F16)
        self._compare(F16, self._builder.f16)
        return F16.label not in self._made.failed or self._prepared.options.force

    def _built(self, wanted: Wanted) -> None:
        """Write down that an artefact was built."""
        self._export.happened("built", f"Built {wanted.place(self._prepared.asked.stem)}.")
        self._export.unjudge(wanted.label)

    def _compare(self, wanted: Wanted, path: Path) -> None:
        """Compare an artefact with its source, unless an earlier call found it alike."""
        if self._session is None or wanted.kind == "adapter" or wanted.label in self._made.verdicts:
            return
        verdict = self._export.verdicts().get(wanted.label)
        if verdict is None or verdict.verdict == "fail":
            variant = registering.built(self._origin, wanted, path)
            level = wanted.label if wanted.kind == "gguf" else ""
            verdict = self._session.check(variant, wanted.kind, level, self._reference(wanted), self._telling(1.0))
            self._export.judge(wanted.label, verdict)
            self._export.happened("parity", f"{wanted.label}: {verdict.verdict}.", label=wanted.label)
        self._made.verdicts[wanted.label] = verdict

    def _reference(self, wanted: Wanted) -> Built | None:
        """Return what a quantization is compared with: the f16 GGUF it was made from; None stands for the source."""
        return registering.built(self._origin, F16, self._builder.f16) if wanted.quantized else None

    def _present(self, *kinds: str) -> list[Wanted]:
        return [one for one in self._wanted if one.kind in kinds and self._export.path(one).exists()]

    def _register(self) -> None:
        stays = self._made.refused(self._wanted, self._prepared.options.force)
        for wanted in self._present("merged", "gguf", "gptq"):
            if wanted.label not in stays:
                variant = registering.built(self._origin, wanted, self._export.path(wanted))
                self._made.variants[wanted.label] = registering.register(self._settings, variant)

    def _describe(self) -> None:
        options, catalogue = self._prepared.options, Catalogue.load(self._settings)
        Describer(self._export, self._origin, catalogue, options.scores, options.base).write(self._wanted)

    def _end(self) -> Made:
        names = tuple(self._made.variants.values())
        failed = [] if self._prepared.options.force else self._made.failed
        if failed:
            self._export.end("parity", f"Parity failed: {', '.join(failed)}.", variants=names)
        else:
            self._builder.clear()
            self._export.end("done", fraction=1.0, stage="", variants=names)
        self._progress(1.0, "Ready")
        return self._made

    def _notes(self) -> None:
        said = {event.message for event in self._export.events()}
        for note in self._origin.notes:
            if note not in said:
                self._export.happened("note", note)

    def _telling(self, share: float) -> Tell:
        """Return a callback for one step that takes `share` of the whole; it also writes state.json for the page."""
        begun, self._done = self._done, self._done + share

        def tell(fraction: float, words: str) -> None:
            self._told = min(0.99, max(self._told, (begun + share * fraction) / self._total))
            self._export.tell(fraction=round(self._told, 4), stage=words)
            self._progress(self._told, words)

        return tell
