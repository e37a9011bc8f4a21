"""What every verb finds in its context, and what several of them print in the same way."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from playground.catalogue.remarks import Remark
from playground.catalogue.variants import Adapter, Catalogue, Stored
from playground.cli.language import told, word
from playground.settings import Settings
from playground.system.progress import Tell


@dataclass(frozen=True)
class Program:
    """The settings of the program, and what it hands to a verb from the wings that the verb's own may not import."""

    settings: Settings
    prepare: Callable[[], None] = lambda: None
    """Make the embedded models where they are missing."""
    benchmark_texts: Callable[[Path | None], list[tuple[str, str]]] = lambda folder: []
    """Return (task, text) pairs of KoBEST's questions, from a folder or from the data folder."""
    score_quick: Callable[[list[str]], bool] = lambda names: True
    """Score variants on KoBEST's quick sample; whether that worked."""
    scores_of: Callable[[Sequence[str]], Iterable[tuple[str, str, float, int, int, str, bool]]] = lambda names: ()
    """Return rows of what was scored before: task, metric, value, documents, shots, variant, and False: its own."""

    def prepare_embedded(self, names: Iterable[str]) -> None:
        """Have the embedded models made where one of these variants needs them; unknown names are an error."""
        catalogue = Catalogue.load(self.settings)
        variants = [catalogue.get(name) for name in names]
        bases = [catalogue.base_of(variant) for variant in variants if isinstance(variant, Adapter)]
        stored = [part for part in (*variants, *bases) if isinstance(part, Stored)]
        if any(part.path.is_relative_to(self.settings.models_dir) for part in stored):
            self.prepare()


def program(context: typer.Context) -> Program:
    """Return what the front door left in the context of every verb."""
    assert isinstance(context.obj, Program)
    return context.obj


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence as it is: without markup, highlighting or line breaks of rich's own."""
    console.print(Text(told(text), style), soft_wrap=True)


def said(remarks: Iterable[Remark]) -> list[str]:
    """Return remarks as the page says them."""
    return [
        word(
            remark.key,
            **{name: told(value) if isinstance(value, str) else value for name, value in remark.values.items()},
        )
        for remark in remarks
    ]


def print_json(row: Mapping[str, Any]) -> None:
    """Print one JSON object as a line of stdout."""
    sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def progress_bar(console: Console) -> Iterator[Tell]:
    """Show a bar with a share, a description and the time; yields what moves it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("Starting", total=1.0)
        yield lambda done, step: bar.update(task, completed=done, description=step)
