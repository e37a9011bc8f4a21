"""The training wing's verbs: so far `madang demo`, which makes, retrains and measures the embedded models."""

from typing import Annotated

import typer

from playground.settings import Settings

demo = typer.Typer(help="The embedded models: prepare, retrain, measure.", no_args_is_help=True)


@demo.command()
def prepare(context: typer.Context) -> None:
    """Make the embedded models in the data folder; nothing happens where they are whole."""
    ensure(context.obj)


def ensure(settings: Settings) -> None:
    """The embedded models, made if they are missing, with a progress bar on stderr."""
    from training.demo.prepare import prepare as make
    from training.demo.prepare import prepared

    if prepared(settings.models_dir):
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    console = Console(stderr=True)
    console.print(f"Preparing the embedded models in {settings.models_dir} (once, about half a minute)", soft_wrap=True)
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("Starting", total=1.0)
        make(settings.models_dir, lambda done, step: bar.update(task, completed=done, description=step))


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
