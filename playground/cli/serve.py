"""The verb `madang serve`: our own API, or an engine of others over the same variants. Prints; others decide."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from playground.catalogue.hub import HuggingFaceHub
from playground.catalogue.variants import Catalogue
from playground.cli.context import Program, program, say
from playground.errors import ConfigError
from playground.wording import worded

if TYPE_CHECKING:
    from playground.engines.plan import Plan, Wish

ENGINES_OWN = ("print_", "name", "command", "adapters", "parallel", "timeout", "keep")
"""Options that mean nothing to our own API."""
EngineName = Literal["madang", "vllm", "llama-server"]


class WithFlags(TyperCommand):
    """A verb that takes each word after `--` as a `--flag` for the engine."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Hide the engine's flags in the values of an option before the verb's own are read."""
        if "--" in args:
            at = args.index("--")
            args = [*args[:at], *(f"--flag={word}" for word in args[at + 1 :])]
        return super().parse_args(ctx, args)


def serve(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    variant: Annotated[
        list[str] | None, typer.Argument(help="Variants to serve; Madang's own API serves all, these first.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; beyond this machine it needs a key.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port; several GGUFs take the ones after it.")] = 8000,
    engine: Annotated[EngineName, typer.Option(help="Madang's own API, vLLM, or llama.cpp's server.")] = "madang",
    print_: Annotated[bool, typer.Option("--print", help="Print the engine's command line, start nothing.")] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="What a server's row is called, one for each VARIANT; default NAME-ENGINE.")
    ] = None,
    command: Annotated[
        str | None, typer.Option(help="How the engine is called (env MADANG_VLLM, MADANG_LLAMA_SERVER): 'uvx vllm'.")
    ] = None,
    adapters: Annotated[
        bool, typer.Option("--adapters/--no-adapters", help="vLLM: a named base takes its adapters along.")
    ] = True,
    parallel: Annotated[int, typer.Option(min=1, max=256, help="llama-server: answers at once.")] = 4,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds an engine may take to be ready.")] = 1800.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the engine's rows in the catalogue at the end.")] = False,
    flag: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve variants over an OpenAI-compatible API. Flags of an engine's own come after `--`."""
    ours, names, flags = program(context), variant or [], tuple(flag or ())
    settings = ours.settings.model_copy(update={"port": port} | ({} if host is None else {"host": host}))
    if engine == "madang":
        from playground.server.app import run as run_api

        _refuse_engine_options(context, flags)
        ours.prepare_embedded(names or Catalogue.load(settings).names)
        run_api(settings, names)
        return
    from playground.engines.plan import Wish
    from playground.engines.process import run

    words = tuple(shlex.split(command)) if command else None
    wish = Wish(settings, words, flags, parallel, adapters)
    plans = _named(_plans(ours, engine, names, wish), names, name or [])
    if print_:
        for plan in plans:
            sys.stdout.write(plan.shown + "\n")
        return
    run(plans, wish, timeout, keep)


def _refuse_engine_options(context: typer.Context, flags: tuple[str, ...]) -> None:
    """Refuse what was typed for an engine where none is named."""
    sources = {name: context.get_parameter_source(name) for name in ENGINES_OWN}
    typed = [f"--{name.rstrip('_')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if wrong := [*(["flags after --"] if flags else []), *typed]:
        raise ConfigError(worded("cli_serve.madang_own_api", wrong=", ".join(wrong)))


def _plans(ours: Program, engine: EngineName, names: list[str], wish: "Wish") -> "list[Plan]":
    """Plan what to start. Embedded models are made, files on the Hub fetched."""
    from playground.engines import llama_server, registry, vllm
    from playground.engines.plan import check_flags
    from playground.server.guards.keys import check_binding

    registry.sweep(wish.settings)
    catalogue = Catalogue.load(wish.settings)
    kinds = ("base", "adapter") if engine == "vllm" else ("gguf",)
    if not names:
        known = ", ".join(variant.name for variant in catalogue if variant.kind in kinds)
        raise ConfigError(worded("cli_serve.variant_should_serve", engine=engine, known=known))
    names = list(dict.fromkeys(names))
    check_binding(wish.settings)
    check_flags(wish.flags)
    ours.prepare_embedded(names)
    console = Console(stderr=True)
    with console.status(Text(f"Looking at {', '.join(names)}")) as status:
        if engine == "llama-server":
            return llama_server.make(
                catalogue, HuggingFaceHub(), names, wish, lambda done, what: status.update(Text(f"{what} {done:.0%}"))
            )
        plan, left = vllm.make(catalogue, HuggingFaceHub(), names, wish)
    for sentence in left:
        say(console, sentence, "yellow")
    return [plan]


def _named(plans: "list[Plan]", asked: list[str], given: list[str]) -> "list[Plan]":
    """Return the plans with the rows' names that a person gave, in the order of the variants asked for."""
    asked = list(dict.fromkeys(asked))
    if not given:
        return plans
    if len(given) != len(asked):
        raise ConfigError(worded("cli_serve.variants_names", asked_count=len(asked), given_count=len(given)))
    names = dict(zip(asked, given, strict=True))
    return [plan.renamed(names) for plan in plans]
