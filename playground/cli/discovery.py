"""The verbs `madang models discover`, `suggest`, `search` and `fetch`: models here and on the Hub. Prints."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from playground.catalogue.discovery.found import PLACES, Look
from playground.catalogue.discovery.offers import Offer, look_around, offers
from playground.catalogue.suggested import GROUPS, suggestions
from playground.cli.context import print_json, program, progress_bar, said, say
from playground.cli.language import fault, word
from playground.compare import Playground
from playground.errors import MadangError, UnknownNameError
from playground.page.number import disk_size
from playground.settings import Settings
from playground.system.progress import ProgressFile
from playground.wording import worded
from playground.workers import adding, memory
from playground.workers.fetched import Fetched
from playground.workers.loadable import Loader


def discover(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(help="A folder with GGUF files or models to look into as well.")] = "",
    add: Annotated[list[str] | None, typer.Option("--add", help="Add this one, by the name shown; repeat it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Add all that can be added.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False,
) -> None:
    """Find models in the Hub's cache, Ollama's and LM Studio's folders; with --add they come into the catalogue."""
    playground = Playground(program(context).settings)
    look = look_around(folder)
    made = offers(look, playground.catalogue)
    if add or everything:
        _add(playground, made, [one.name for one in made if one.obstacle is None] if everything else add or ())
    elif as_json:
        for offer in made:
            print_json(_row(offer))
    else:
        _show(look, made)


def _add(playground: Playground, made: Sequence[Offer], names: Sequence[str]) -> None:
    """Add the offers of these names; those that cannot be added are told, and the exit code is 1."""
    by_name, console, faults = {offer.name: offer for offer in made}, Console(stderr=True), 0
    for name in names:
        if name not in by_name:
            raise UnknownNameError(worded("noun.model_found_here"), name, by_name, worded("cli_discovery.list_all"))
    for name in names:
        if name in playground.catalogue.names:  # it was there, or came as another's base
            continue
        if obstacle := by_name[name].obstacle:
            faults += 1
            say(console, f"{name} cannot be added. {' '.join(said([obstacle]))}", "red")
            continue
        try:
            loader = Loader(playground.settings, playground.catalogue, playground.hub)
            for done in adding.add(loader, by_name[name]):
                say(console, f"Added {done.name}.")
                for remark in said(done.remarks):
                    say(console, remark, "yellow")
        except MadangError as error:
            faults += 1
            say(console, fault(error, f"{name}: "), "red")
    if faults:
        raise typer.Exit(1)


def _show(look: Look, made: Sequence[Offer]) -> None:
    """Print what was found by who keeps it, then what is not offered and why, and how the others are added."""
    console, good = Console(), [offer for offer in made if offer.obstacle is None]
    for place in PLACES:
        if here := [offer for offer in good if offer.found.place == place]:
            say(console, word(f"found.{place}"), "bold")
            _lines(console, here)
    if bad := [offer for offer in made if offer.obstacle]:
        say(console, "Not offered", "bold")
        for offer in bad:
            say(console, f"  {offer.found.title}: {' '.join(_state(offer))}", "dim")
    for remark in said(look.said):
        say(console, remark, "yellow")
    free = [one.name for place in PLACES for one in good if one.found.place == place and not one.listed]
    if free:
        say(console, f"\nAdd one: madang models discover --add {free[0]}    all: --all", "dim")
    elif not made:
        say(console, "Nothing found. Name a folder: madang models discover ~/models", "dim")


def _lines(console: Console, made: Sequence[Offer]) -> None:
    """Print offers, a line each, with what is to know of them below."""
    longest = max(len(offer.name) for offer in made)
    for offer in made:
        listed = "   in the catalogue" if offer.listed else ""
        kind, size = offer.found.kind, disk_size(offer.found.size)
        say(console, f"  {offer.name:{longest}}  {kind:7}  {size:>9}{listed}", "dim" if listed else "")
        for remark in _state(offer) if not listed else ():
            say(console, f"      {remark}", "dim")


def _state(offer: Offer) -> list[str]:
    """Return how an offer stands: in the catalogue, not to be added and why, or what is to know of it."""
    if offer.listed:
        return ["in the catalogue"]
    return said([offer.obstacle]) if offer.obstacle else said(offer.notes)


def _row(offer: Offer) -> dict[str, object]:
    """Return an offer as JSON."""
    found = offer.found
    about = {"name": offer.name, "kind": found.kind, "bytes": found.size, "place": found.place, "title": found.title}
    state = "listed" if offer.listed else "refused" if offer.obstacle else "offered"
    return about | {"source": found.source, "file": found.file, "state": state, "said": _state(offer)}


def suggest(context: typer.Context) -> None:
    """List models to begin with: Korean, multilingual, small, code; and whether this machine holds them."""
    settings = program(context).settings
    console = Console()
    for group in GROUPS:
        say(console, word(f"suggest.{group}"), "bold")
        for one in suggestions():
            if group in one.groups:
                _line(console, settings, one.source, "base", one.weights, one.download, one.licence, one.gated)
    say(console, "\nAdd one: madang models add NAME ID    more: madang models search WORDS", "dim")


def search(
    context: typer.Context,
    query: Annotated[list[str], typer.Argument(help="Words of a model's id, of its owner or its name.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False,
) -> None:
    """Search the Hugging Face Hub: size, licence, whether it is gated, and whether this machine holds it."""
    settings = program(context).settings
    found = Playground(settings).hub.search(" ".join(query))
    console = Console()
    for one in found:
        if as_json:
            print_json(asdict(one))
        else:
            _line(console, settings, one.source, one.kind, one.parameters, one.download, one.licence, one.gated)
    if not as_json:
        say(
            console,
            "\nAdd one: madang models add NAME ID" if found else "Nothing that could run here.",
            "dim",
        )


def fetch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A variant of the catalogue.")],
    progress: Annotated[Path | None, typer.Option("--progress", hidden=True)] = None,
) -> None:
    """Download a variant's files now, before it is asked; what was interrupted goes on where it stopped."""
    playground = Playground(program(context).settings)
    loader = Loader(playground.settings, playground.catalogue, playground.hub)
    variant = playground.catalogue.get(name)
    written = ProgressFile(progress, Fetched())
    console = Console(stderr=True)
    with progress_bar(console) as move:

        def tell(share: float, what: str) -> None:
            written.tell(share=share, what=what)
            move(share, what)

        loader.loadable(variant, tell)
    say(console, f"{name} is on this machine.")


def _line(console: Console, settings: Settings, *fields: Any) -> None:
    """Print a model of the Hub on one line."""
    source, kind, parameters, download, licence, gated = fields
    held = memory.fits(memory.foreseen(kind, parameters), settings) if parameters and kind == "base" else None
    parts = [f"{parameters / 1e9:.1f}B" if parameters else "", disk_size(download) if download else "", licence]
    parts += ["gated" if gated else "", "" if held is None else "fits" if held else "too large for this machine"]
    say(
        console,
        f"  {source}  [{kind}]  " + " · ".join(part for part in parts if part),
        "" if held is not False else "dim",
    )
