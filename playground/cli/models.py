"""The verb `madang models`: the catalogue: list, add, check, remove. Prints; others decide."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from playground.catalogue import kinds, variants
from playground.catalogue.variants import Base, Catalogue, Remote, Variant
from playground.cli import discovery
from playground.cli.context import print_json, program, said, say
from playground.cli.language import told
from playground.compare import Playground
from playground.engines.registry import sweep
from playground.errors import ConfigError, MadangError
from playground.remote import reach
from playground.system import hardware
from playground.wording import worded
from playground.workers import memory
from playground.workers.loadable import Loader, remote_spec

models = typer.Typer(help="The catalogue of variants: list, find, add, check, remove.", no_args_is_help=False)
for verb in (discovery.discover, discovery.suggest, discovery.search, discovery.fetch):
    models.command()(verb)


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False
) -> None:
    """List the variants, and where your own are written down."""
    if context.invoked_subcommand is not None:
        return
    settings = program(context).settings
    sweep(settings)
    catalogue = Catalogue.load(settings)
    if as_json:
        for variant in catalogue:
            print_json(variant.model_dump())
        return
    table = Table("name", "kind", "base", "source", "state", box=None, pad_edge=False)
    reached = reach.reached([remote_spec(row) for row in catalogue if isinstance(row, Remote)])
    for variant in catalogue:
        base = "" if isinstance(variant, Base) else variant.base or ""
        table.add_row(*map(Text, (variant.name, variant.kind, base, *_place(variant, reached))))
    console = Console()
    console.print(table)
    say(console, f"\nYour own variants: {settings.catalogue}", "dim")


def _place(variant: Variant, reached: Mapping[str, MadangError | None]) -> tuple[str, str]:
    """Return where a variant is, and whether it is there."""
    if isinstance(variant, Remote):
        return variant.url, "does not answer" if reached[variant.name] else "answers"
    if not variant.is_local:
        return variant.source, "on the Hub"
    return variant.source, "here" if variant.path.exists() else "missing"


@models.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it: name, name:adapter, name:adapter:Q4_K_M.")],
    source: Annotated[str, typer.Argument(help="Hub id (owner/name), folder, GGUF file, or http(s):// address.")],
    kind: Annotated[
        str, typer.Option(help="base, adapter, gguf or remote; guessed from the source where it can be.")
    ] = "",
    base: Annotated[str | None, typer.Option(help="The variant it descends from (adapters need it).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another field: --set prompt_format=alpaca; repeat it.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False,
) -> None:
    """Add a variant: its files are fetched and checked first, or its server asked."""
    settings = program(context).settings
    row: dict[str, Any] = {"name": name, "kind": kinds.corrected(kind, source) if kind else kinds.guess(source, base)}
    row |= {"url": source} if row["kind"] == "remote" else {"source": variants.placed(source)}
    for pair in set_ or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(worded("cli_models.set_names_no", pair=pair))
        row[key] = value
    if base is not None:
        row["base"] = base
    variant = variants.parse(row, "the new variant")
    playground = Playground(settings)
    variants.check_new(playground.catalogue, variant)
    loader = Loader(settings, playground.catalogue.with_variant(variant), playground.hub)
    console = Console(stderr=True)
    size = loader.download_bytes(variant)
    if size:
        loader.foreseen(variant)
    if size and not yes and not typer.confirm(f"{source} is {size / hardware.GIB:.2f} GiB to download. Go on?"):
        raise typer.Exit(1)
    with console.status(Text(f"Checking {name}")) as status:
        loadable = loader.loadable(variant, lambda done, what: status.update(Text(f"{what} ({done:.0%})")))
        if isinstance(variant, Remote):
            reach.look(loadable.spec)
    variants.add(settings, variant)
    remarks = loader.remarks(variant, loadable)
    for remark in said(remarks):
        say(console, remark, "yellow")
    is_asked = not any(remark.no_chat for remark in remarks)
    say(console, f"Added {name}." + (f" Try it: madang chat -v {name}" if is_asked else ""))


@models.command()
def check(
    context: typer.Context, name: Annotated[str | None, typer.Argument(help="One variant; default all.")] = None
) -> None:
    """Check the files of variants without loading them, and whether servers answer; nothing is downloaded."""
    settings = program(context).settings
    playground = Playground(settings)
    catalogue = playground.catalogue
    loader = Loader(settings, catalogue, playground.hub)
    console, faults = Console(), 0
    for variant in [catalogue.get(name)] if name else list(catalogue):
        try:
            verdict = Text("not here yet: on the Hub" if loader.download_bytes(variant) else _verdict(loader, variant))
        except MadangError as error:
            faults += 1
            verdict = Text.assemble((told(error.message), "red"), f" {told(error.hint)}")
        console.print(Text.assemble((variant.name, "bold"), "  ", verdict), soft_wrap=True)
    if faults:
        raise typer.Exit(1)


def _verdict(loader: Loader, variant: Variant) -> str:
    """Look at the files or the server of a variant, and say what it needs; a fault is raised."""
    loadable = loader.loadable(variant)
    if loadable.spec.remote is not None:
        found = reach.look(loadable.spec)
        return f"ok, answers; {found.model or 'its model'}, context {found.info.context:,}"
    need = memory.need(loadable.spec)
    remarks = "".join(f". {text}" for text in said(loader.remarks(variant, loadable)))
    apart = f"; answers apart from its base: {loadable.apart}" if loadable.apart else ""
    return f"ok, needs about {(need.ram + need.vram) / hardware.GIB:.2f} GiB{apart}{remarks}"


@models.command()
def remove(context: typer.Context, name: Annotated[str, typer.Argument(help="A variant of your own.")]) -> None:
    """Take a variant out of the catalogue; its files stay."""
    variants.remove(program(context).settings, name)
    say(Console(stderr=True), f"Removed {name}; its files are where they were.")
