"""`madang export`: files that others load, of a run or an adapter. Prints; others decide."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from playground.catalogue.variants import Catalogue
from playground.cli.context import program, progress_bar, say
from playground.errors import ConfigError
from playground.settings import Settings
from playground.system.progress import ProgressFile, Tell
from training.run import folders

if TYPE_CHECKING:
    from training.export.making import Made
    from training.export.preparing import Prepared
    from training.export.pushing import Parcel, Push

Shown = Callable[[], AbstractContextManager[Tell]]
"""Begins to show progress; what it yields is told a fraction of 1 and the words for it."""
COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


def export(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A finished run, or an adapter of the catalogue.")],
    to: Annotated[
        str,
        typer.Option("--to", help="Comma-separated: adapter, merged, gptq, gguf:LEVEL,LEVEL (q4_k_m, q8_0, f16 …)."),
    ] = "gguf:q4_k_m",
    out: Annotated[Path | None, typer.Option(help="Folder to write into; default: one of its own in exports.")] = None,
    name: Annotated[str, typer.Option(help="What the files are called; default: model and adapter.")] = "",
    dtype: Annotated[str, typer.Option(help="bf16 or fp16, of merged weights; default: the base's own.")] = "",
    keep_f16: Annotated[bool, typer.Option("--keep-f16", help="Keep the f16 GGUF that levels are made from.")] = False,
    imatrix: Annotated[
        Path | None, typer.Option(help="A text to measure an importance matrix on, for few bits.")
    ] = None,
    parity: Annotated[bool, typer.Option(help="Hold what was built against its source.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that exist; catalogue and push what failed parity.")
    ] = False,
    push: Annotated[
        str,
        typer.Option(
            "--push",
            metavar="OWNER/NAME",
            help="Upload to the Hub, private: the adapter to OWNER/NAME, the others to NAME-merged, NAME-GGUF, "
            "NAME-gptq. What is exported already is not built again.",
        ),
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="Everybody may see what is pushed.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Push into a repository that holds files.")] = False,
    base: Annotated[
        str, typer.Option("--base", metavar="OWNER/NAME", help="Where the base is on the Hub, if Madang cannot tell.")
    ] = "",
    progress: Annotated[Path | None, typer.Option("--progress", hidden=True)] = None,
) -> None:
    """Export: merged weights, GGUF and GPTQ builds that behave like the adapter they came from."""
    from training.export import making, plan, preparing
    from training.export.card import Score

    ours = program(context)
    asked = _asked_push(push, public, replace, base)
    wanted = plan.parse(to)
    if source in Catalogue.load(ours.settings).names:
        ours.prepare_embedded([source])

    def scores(names: Sequence[str]) -> list[Score]:
        return [Score(*row) for row in ours.scores_of(names)]

    options = preparing.Options(out, name, dtype, keep_f16, force, parity, imatrix, asked is not None, base, scores)
    prepared = preparing.prepare(ours.settings, source, wanted, options)
    console = Console(stderr=True)
    parcels = _check_push(prepared, asked)
    _announce(prepared, console)
    _announce_push(prepared, asked, parcels, console)
    shown = partial(_shown, prepared, console, progress)
    with shown() as tell:
        made = making.make(ours.settings, prepared, tell)
    _show(prepared, made, console)
    if asked is not None:
        _push(ours.settings, prepared, made, asked, shown)
    if made.failed and not force:
        say(console, "What failed is not in the catalogue; --force adds it all the same.", "red")
        raise typer.Exit(1)


def _asked_push(repo: str, public: bool, replace: bool, base: str) -> "Push | None":
    """Return where to push to, its names looked at; refuse options that mean nothing without --push."""
    from training.export import hub
    from training.export.pushing import Push

    if base:
        hub.check_name(base)
    if repo:
        hub.check_name(repo)
        return Push(repo, public, replace, base)
    if public or replace:
        raise ConfigError(
            f"{'--public' if public else '--replace'} says how to push, and nothing is pushed.",
            "Add --push OWNER/NAME.",
        )
    return None


def _check_push(prepared: "Prepared", asked: "Push | None") -> "list[Parcel]":
    """Check token, repositories and base before the long work, and return what is to be pushed still."""
    from training.export import pushing

    if asked is None:
        return []
    return pushing.check(prepared.origin, prepared.begun, asked, prepared.asked.wanted)


def _announce(prepared: "Prepared", console: Console) -> None:
    goes_on = "is finished" if prepared.ready else "goes on" if prepared.begun else "takes"
    size = "" if prepared.ready else f", {prepared.sizes.peak / 1e9:.2f} GB at its peak"
    say(console, f"Export of {prepared.asked.variant} {goes_on}: {prepared.where}{size}.", "dim")


def _announce_push(prepared: "Prepared", asked: "Push | None", parcels: "list[Parcel]", console: Console) -> None:
    """Say what will be uploaded where."""
    from training.export import hub

    if asked is None:
        return
    sizes, seen = prepared.sizes.artefacts, "public" if asked.public else "private"
    for parcel in parcels:
        labels = ", ".join(one.label for one in parcel.wanted)
        size = sum(sizes.get(one.label, 0) for one in parcel.wanted) / 1e9
        where = hub.address(parcel.repo)
        say(console, f"To be pushed to {where} ({seen}): {labels}, about {size:.2f} GB, with a model card.", "dim")
    if not parcels:
        say(console, "All of it was pushed there before; --replace pushes it again.", "dim")


def _push(settings: Settings, prepared: "Prepared", made: "Made", asked: "Push", shown: Shown) -> None:
    """Upload what passed; each address is printed, since the next upload may fail."""
    from training.export import pushing
    from training.export.describing import Describer

    options, export = prepared.options, made.export
    describer = Describer(export, prepared.origin, Catalogue.load(settings), options.scores, asked.base)
    stays = made.refused(prepared.asked.wanted, options.force)
    if stays:
        say(Console(stderr=True), f"Not pushed, since parity failed: {', '.join(stays)}; --force pushes it.", "red")
    pusher = pushing.Pusher(export, prepared.origin, asked, describer)
    with export.locked(), shown() as tell:
        went = pusher.push(prepared.asked.wanted, stays, tell)
    for url in went:
        say(Console(), f"Pushed: {url}")


@contextmanager
def _shown(prepared: "Prepared", console: Console, told: Path | None) -> Iterator[Tell]:
    """Show a progress bar, and write the file that the page reads."""
    with progress_bar(console) as tell:
        file = ProgressFile(told, folders.Progress(export=str(prepared.where)))

        def progress(fraction: float, words: str) -> None:
            tell(fraction, words)
            file.tell(fraction=fraction, stage=words)

        yield progress


def _show(prepared: "Prepared", made: "Made", console: Console) -> None:
    from training.export.plan import bytes_of

    for event in made.export.events():
        if event.kind == "note":
            say(console, event.message, "yellow")
    table = Table("file", "MB", "parity", "variant", box=None, pad_edge=False)
    for wanted in prepared.asked.wanted:
        path = made.export.path(wanted)
        verdict = made.verdicts.get(wanted.label)
        grade = verdict.verdict if verdict else ""
        size = f"{bytes_of(path) / 1e6:.1f}" if path.exists() else "not built"
        cells = (path.name, size, grade, made.variants.get(wanted.label, ""))
        table.add_row(*map(Text, cells), style=COLOURS.get(grade, ""))
    Console().print(table)
    for label, verdict in made.verdicts.items():
        if verdict.verdict != "pass":
            say(console, f"{label}: {verdict.verdict} ({', '.join(verdict.causes)})")
            for line in verdict.lines:
                say(console, f"  {line}")
    say(console, str(made.export.folder), "dim")
