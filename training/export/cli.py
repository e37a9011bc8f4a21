"""`madang export`: files that others load, of a run or an adapter. Prints; others decide."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from playground.settings import Settings

if TYPE_CHECKING:
    from training.export.making import Outcome, Prepared

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
        bool, typer.Option("--force", help="Replace files that exist; add to the catalogue what failed parity.")
    ] = False,
    progress: Annotated[Path | None, typer.Option("--progress", hidden=True)] = None,
) -> None:
    """Export: merged weights, GGUF and GPTQ builds that behave like the adapter they came from."""
    from training.export import making, plan

    settings: Settings = context.obj
    wanted = plan.parse(to)
    _embedded(context, source)
    options = making.Options(out, name, dtype, keep_f16, force, parity, imatrix)  # type: ignore[arg-type]  # checked there
    prepared = making.prepare(settings, source, wanted, options)
    console = Console(stderr=True)
    _announce(prepared, console)
    outcome = _make(settings, prepared, console, progress)
    _show(prepared, outcome, console)
    if outcome.failed and not force:
        console.print(
            "What failed is not in the catalogue; --force adds it all the same.", style="red", highlight=False
        )
        raise typer.Exit(1)


def _embedded(context: typer.Context, source: str) -> None:
    """Have the embedded models made where the source is one of them."""
    from playground.cli import prepare_embedded
    from playground.variants import Catalogue

    if source in Catalogue.load(context.obj).names:
        prepare_embedded(context, [source])


def _announce(prepared: "Prepared", console: Console) -> None:
    goes_on = "goes on" if prepared.begun else "takes"
    size = prepared.sizes.peak / 1e9
    console.print(
        f"Export of {prepared.asked.variant} {goes_on}: {prepared.where}, {size:.2f} GB at its peak.",
        style="dim",
        soft_wrap=True,
        highlight=False,
    )


def _make(settings: Settings, prepared: "Prepared", console: Console, told: Path | None) -> "Outcome":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from training.export import making

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("Starting", total=1.0)

        def progress(fraction: float, words: str) -> None:
            bar.update(task, completed=fraction, description=words)
            if told is not None:
                _tell(told, fraction=fraction, stage=words, export=str(prepared.where))

        return making.make(settings, prepared, progress)


def _tell(path: Path, **row: object) -> None:
    """What the page reads of a command under way, replaced at once."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def _show(prepared: "Prepared", outcome: "Outcome", console: Console) -> None:
    for event in outcome.export.events():
        if event["kind"] == "note":
            console.print(event["message"], style="yellow", highlight=False, soft_wrap=True)
    table = Table("file", "MB", "parity", "variant", box=None, pad_edge=False)
    for wanted in prepared.asked.wanted:
        path = outcome.export.path(wanted)
        verdict = outcome.verdicts.get(wanted.label, {}).get("verdict", "")
        cells = (path.name, _megabytes(path), verdict, outcome.variants.get(wanted.label, ""))
        table.add_row(*map(escape, cells), style=COLOURS.get(verdict, ""))
    Console().print(table)
    for label, verdict in outcome.verdicts.items():
        if verdict["verdict"] != "pass":
            causes = ", ".join(verdict["causes"])
            console.print(f"{label}: {verdict['verdict']} ({causes})", highlight=False)
            for line in verdict["lines"]:
                console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    console.print(f"{outcome.export.folder}", style="dim", soft_wrap=True, highlight=False)


def _megabytes(path: Path) -> str:
    if not path.exists():
        return "not built"
    files = path.rglob("*") if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:.1f}"
