"""`madang demo`: make, retrain and measure the embedded models. Prints; others decide."""

from typing import Annotated

import typer
from rich.console import Console

from playground.cli.context import program, progress_bar, say
from playground.settings import Settings

demo = typer.Typer(help="The embedded models: prepare, retrain, measure.", no_args_is_help=True)


@demo.command()
def prepare(context: typer.Context) -> None:
    """Make the embedded models in the data folder; nothing happens where they are whole."""
    program(context).prepare()


def ensure(settings: Settings) -> None:
    """Make the embedded models if they are missing, with a progress bar on stderr."""
    from training.demo.prepare import prepare as make
    from training.demo.prepare import prepared

    if prepared(settings.models_dir):
        return
    console = Console(stderr=True)
    say(console, f"Preparing the embedded models in {settings.models_dir} (once, about half a minute)")
    with progress_bar(console) as tell:
        make(settings.models_dir, tell)


@demo.command()
def train() -> None:
    """Train the demo adapter again, from its own examples; minutes on two cores."""
    from training.demo.train import main

    main()


@demo.command()
def measure(
    limit: Annotated[int | None, typer.Option(help="Only the first prompts.")] = None,
) -> None:
    """Show how often base, adapter and Q4_K_M answer in the demo's format on held-out prompts."""
    from training.demo.measure import main

    main(limit)
