"""The verb `madang models discover`: what other programs keep on this machine, and adding it. Prints; others decide."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from playground.catalogue.discovery.found import PLACES, Look
from playground.catalogue.discovery.offers import Offer, look_around, offers
from playground.cli.context import print_json, program, said, say
from playground.compare import Playground
from playground.errors import MadangError, UnknownNameError
from playground.page.number import disk_size
from playground.page.words import words
from playground.workers import adding
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
            raise UnknownNameError("model found here", name, by_name, "`madang models discover` lists them.")
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
            say(console, f"{name}: {error.message} {error.hint}", "red")
    if faults:
        raise typer.Exit(1)


def _show(look: Look, made: Sequence[Offer]) -> None:
    """Print what was found by who keeps it, then what is not offered and why, and how the others are added."""
    console, good = Console(), [offer for offer in made if offer.obstacle is None]
    for place in PLACES:
        if here := [offer for offer in good if offer.found.place == place]:
            say(console, words("en")[f"found.{place}"], "bold")
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
