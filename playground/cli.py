"""The playground's verbs: `madang chat` and `madang models`. Every line that people see, nothing that decides."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from playground.catalogue import variants
from playground.catalogue.variants import Adapter, Base, Catalogue, Remote, Stored, Variant
from playground.compare import Playground, Question
from playground.engines.registry import sweep
from playground.errors import ConfigError, MadangError, UnknownNameError
from playground.events import Failed, Finished, Started
from playground.messages import Conversation
from playground.presets import DEFAULT_PRESET, Sampling, sampling
from playground.remote import reach
from playground.settings import Settings
from playground.system import hardware
from playground.terminal import Chat, show_answers
from playground.workers import memory
from playground.workers.loadable import Loader, remote_spec

DEFAULT_VARIANTS = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M"]
ESCAPE, ESCAPES = re.compile(r"\\([ntr\\])"), {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}

PREPARE = "playground.cli.prepare"
"""Where in click's `meta` the program leaves what makes the embedded models."""

models = typer.Typer(help="The catalogue of variants: list, add, check, remove.", no_args_is_help=False)

VariantOption = Annotated[
    list[str] | None, typer.Option("--variant", "-v", help="A variant to ask; repeat it. Default: the three built-in.")
]
PresetOption = Annotated[str, typer.Option("--preset", "-p", help="factual, balanced or creative.")]


def chat(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(help="Ask once and exit; '-' reads stdin. Without it: a chat.")] = None,
    variant: VariantOption = None,
    preset: PresetOption = DEFAULT_PRESET,
    seed: Annotated[int | None, typer.Option(help="Seed of the random generator; default: a fresh one.")] = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One sampling field: --set temperature=0.3; repeat it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a variant, a line each.")] = False,
) -> None:
    """Ask several variants side by side, in the terminal."""
    chosen = sampling(preset, **_fields(set_ or []) | ({} if seed is None else {"seed": seed}))
    names = list(dict.fromkeys(variant or DEFAULT_VARIANTS))
    playground = Playground(context.obj)
    try:
        prepare_embedded(context, names)
        if text is None:
            Chat(playground, names, chosen, system).run()
        elif not _ask_once(playground, names, chosen, (system, _text(text)), as_json):
            raise typer.Exit(1)
    finally:
        playground.close()


def prepare_embedded(context: typer.Context, names: list[str]) -> None:
    """Have the embedded models made where one of these variants needs them; unknown names are an error."""
    playground = Playground(context.obj)
    if any(_is_embedded(playground, playground.catalogue.get(name)) for name in names):
        context.meta.get(PREPARE, lambda: None)()


def _is_embedded(playground: Playground, variant: Variant) -> bool:
    """Whether a variant, or the base it runs on, lies among the prepared models."""
    base = playground.catalogue.base_of(variant) if isinstance(variant, Adapter) else None
    stored = [part for part in (variant, base) if isinstance(part, Stored)]
    return any(part.path.is_relative_to(playground.settings.models_dir) for part in stored)


def _text(text: str) -> str:
    text = sys.stdin.read() if text == "-" else text
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # bytes that are no UTF-8
    if not text.strip():
        raise ConfigError("The question is empty.", 'Give it as an argument: madang chat "안녕?"')
    return text


def _fields(pairs: list[str]) -> dict[str, object]:
    """Sampling fields from `name=value`; numbers are read as numbers, `stop` may be repeated."""
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in Sampling.model_fields:
            raise UnknownNameError("sampling field", name, Sampling.model_fields, "Write --set name=value.")
        if name == "stop":
            fields[name] = (*fields.get(name, ()), ESCAPE.sub(lambda match: ESCAPES[match[1]], value))
        else:
            fields[name] = value
    return fields


def _ask_once(
    playground: Playground, names: list[str], chosen: Sampling, asked: tuple[str, str], as_json: bool
) -> bool:
    """Ask, print, and say whether every variant answered."""
    conversation = Conversation.start(asked[0]).ask(asked[1])
    questions = [Question(variant=name, messages=conversation.messages, sampling=chosen) for name in names]
    comparison = playground.ask(questions)
    if not as_json:
        return show_answers(Console(), comparison, names)
    rows: dict[str, dict[str, Any]] = {name: {"variant": name} for name in names}
    for event in comparison:
        if isinstance(event, Started):
            rows[event.variant] |= {"seed": event.seed, "dropped_turns": event.dropped_turns}
        elif isinstance(event, Finished):
            rows[event.variant] |= {"text": event.text, "reason": event.reason, **event.stats.model_dump()}
        elif isinstance(event, Failed):
            rows[event.variant] |= {"error": event.message, "hint": event.hint}
    for name in names:
        sys.stdout.write(json.dumps(rows[name], ensure_ascii=False) + "\n")
    return not any("error" in row for row in rows.values())


@models.callback(invoke_without_command=True)
def list_models(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As JSON lines.")] = False
) -> None:
    """List the variants, and where your own are written down."""
    if context.invoked_subcommand is not None:
        return
    settings: Settings = context.obj
    sweep(settings)
    catalogue = Catalogue.load(settings)
    if as_json:
        for variant in catalogue:
            sys.stdout.write(json.dumps(variant.model_dump(), ensure_ascii=False) + "\n")
        return
    table = Table("name", "kind", "base", "source", "state", box=None, pad_edge=False)
    reached = reach.reached([remote_spec(row) for row in catalogue if isinstance(row, Remote)])
    for variant in catalogue:
        base = "" if isinstance(variant, Base) else variant.base or ""
        table.add_row(*map(escape, (variant.name, variant.kind, base, *_place(variant, reached))))
    console = Console()
    console.print(table)
    console.print(f"\nYour own variants: {settings.catalogue}", style="dim", soft_wrap=True)


def _place(variant: Variant, reached: Mapping[str, MadangError | None]) -> tuple[str, str]:
    """Where a variant is, and whether it is there."""
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
    settings: Settings = context.obj
    row: dict[str, Any] = {"name": name, "kind": kind or _guess(source, base)}
    row |= {"url": source} if row["kind"] == "remote" else {"source": _absolute(source)}
    for pair in set_ or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair} names no value.", "Write --set name=value.")
        row[key] = value
    if base is not None:
        row["base"] = base
    variant = variants.parse(row, "the new variant")
    playground = Playground(settings)
    variants.check_new(playground.catalogue, variant)
    loader = Loader(settings, playground.catalogue.with_variant(variant), playground.hub)
    console = Console(stderr=True)
    size = loader.download_bytes(variant)
    if size and not yes and not typer.confirm(f"{source} is {size / hardware.GIB:.2f} GiB to download. Go on?"):
        raise typer.Exit(1)
    with console.status(f"Checking {name}") as status:
        loadable = loader.loadable(variant, lambda done, what: status.update(escape(f"{what} ({done:.0%})")))
        if isinstance(variant, Remote):
            reach.look(loadable.spec)
    variants.add(settings, variant)
    console.print(f"Added {name}. Try it: madang chat -v {name}")


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def _guess(source: str, base: str | None) -> str:
    if source.startswith(("http://", "https://")):
        return "remote"
    path = Path(source).expanduser()
    if source.lower().endswith(".gguf") or (path.is_dir() and any(path.glob("*.gguf"))):
        return "gguf"
    if (path / "adapter_config.json").exists():
        return "adapter"
    return "adapter" if base is not None else "base"


@models.command()
def check(
    context: typer.Context, name: Annotated[str | None, typer.Argument(help="One variant; default all.")] = None
) -> None:
    """Check the files of variants without loading them, and whether servers answer; nothing is downloaded."""
    settings: Settings = context.obj
    playground = Playground(settings)
    catalogue = playground.catalogue
    loader = Loader(settings, catalogue, playground.hub)
    console, faults = Console(), 0
    for variant in [catalogue.get(name)] if name else list(catalogue):
        try:
            verdict = "not here yet: on the Hub" if loader.download_bytes(variant) else _verdict(loader, variant)
        except MadangError as error:
            faults += 1
            verdict = f"[red]{escape(error.message)}[/red] {escape(error.hint)}"
        console.print(f"[bold]{variant.name}[/bold]  {verdict}", soft_wrap=True)
    if faults:
        raise typer.Exit(1)


def _verdict(loader: Loader, variant: Variant) -> str:
    loadable = loader.loadable(variant)
    if loadable.spec.remote is not None:
        found = reach.look(loadable.spec)
        return escape(f"ok, answers; {found.model or 'its model'}, context {found.info.context:,}")
    need = memory.need(loadable.spec)
    alone = f"; runs on a copy of its own: {loadable.why_not_shared}" if loadable.why_not_shared else ""
    return escape(f"ok, needs about {(need.ram + need.vram) / hardware.GIB:.2f} GiB{alone}")


@models.command()
def remove(context: typer.Context, name: Annotated[str, typer.Argument(help="A variant of your own.")]) -> None:
    """Take a variant out of the catalogue; its files stay."""
    variants.remove(context.obj, name)
    Console(stderr=True).print(f"Removed {name}; its files are where they were.")
