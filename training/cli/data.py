"""`madang data check`: what is wrong with training data, and how long its rows are. Prints; others decide."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli.context import Program, print_json, program
from playground.errors import ConfigError, UnknownNameError, VariantError
from training.methods import Method

if TYPE_CHECKING:
    from training.data.encoder import Encoder
    from training.data.formats import Data
    from training.data.report import Report

FORMATS = "alpaca, koalpaca, orca, prompt-completion, sharegpt, messages, xtuner, text, preference, kto or prompt"
data = typer.Typer(help="Training data: check it before any step is trained.", no_args_is_help=True)


@data.callback()
def _verbs() -> None:
    """Training data: check it before any step is trained."""


@data.command()
def check(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, or a Hub data set (owner/name).")],
    split: Annotated[str, typer.Option(help="Which rows of a Hub data set or a folder.")] = "train",
    form: Annotated[str, typer.Option("--format", help=f"{FORMATS}; default: as found.")] = "auto",
    column: Annotated[
        list[str] | None, typer.Option("--column", help="A field's column, as instruction=질문; repeat it.")
    ] = None,
    model: Annotated[str, typer.Option(help="The variant whose tokens and template count.")] = "smollm2",
    prompt_format: Annotated[str | None, typer.Option(help="A named prompt format instead of its template.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Tokens a row; default: the recommended.")] = None,
    method: Annotated[Method | None, typer.Option(help="Refuse data that this way of training cannot use.")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--roles-to-train", help="Whose turns are learnt; repeat it. Default: assistant."),
    ] = None,
    kobest: Annotated[Path | None, typer.Option(help="Folder of KoBEST's TSV files, to find its questions.")] = None,
    lengths: Annotated[bool, typer.Option(help="Measure lengths with the model's tokenizer.")] = True,
    fix: Annotated[Path | None, typer.Option(help="Write a cleaned copy here (.jsonl).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what is wrong, row by row, and how long the rows are; exit 1 where training would refuse the data."""
    from training.data.formats import ANSWERS, check_method, convert, wanted_format
    from training.data.report import inspect, samples
    from training.data.sources import read

    table, named = read(source, split), _columns(column or [])
    try:
        rows = convert(table, wanted_format(form, method), named, _roles(role or [*ANSWERS]))
    except ConfigError:
        if as_json:
            print_json({"unread": True, "columns": samples(table)})
        raise
    if method:
        check_method(rows, method)
    encoder = _encoder(program(context), model, prompt_format) if lengths else None
    report = inspect(rows, encoder, max_length, program(context).benchmark_texts(kobest))
    done = _write(fix, report, source) if fix else None
    _show(report, done, fix, as_json, encoder, samples(table))
    if report.fatal and not fix:
        raise typer.Exit(1)


def _columns(given: list[str]) -> dict[str, str]:
    """Return field -> column from `field=column`."""
    columns = dict(item.partition("=")[::2] for item in given)
    wrong = [item for item in given if "" in (part.strip() for part in item.partition("="))]
    if wrong:
        raise ConfigError(f"--column {wrong[0]} names no field and column.", "Write it as instruction=질문.")
    return {field.strip(): name for field, name in columns.items()}


def _roles(given: list[str]) -> list[str]:
    """Return roles whose turns are learnt; an unknown one is an error with near matches."""
    from training.data.examples import ROLES

    for role in given:
        if role not in ROLES:
            raise UnknownNameError("role", role, ROLES)
    return given


def _encoder(ours: Program, model: str, prompt_format: str | None) -> "Encoder":
    """Load the tokenizer and prompt format of the base that a variant descends from."""
    from playground.compare import Playground
    from playground.workers.loadable import Loader
    from training.data.encoder import Encoder

    ours.prepare_embedded([model])
    playground = Playground(ours.settings)
    variant = playground.catalogue.get(model)
    base = playground.catalogue.base_of(variant)
    if base is None:
        raise VariantError(f"{model} names no base to take a tokenizer from.", "Choose its base model with --model.")
    folder, _ = Loader(playground.settings, playground.catalogue, playground.hub).described(base)
    return Encoder(folder, prompt_format or playground.catalogue.prompt_format(variant), model)


def _write(target: Path, report: "Report", source: str) -> "tuple[Data, dict[str, int]]":
    from training.data.fixing import fix, write_fixed

    left, done = fix(report.data, report.findings)
    write_fixed(target, left, source)
    return left, done


def _show(
    report: "Report",
    done: "tuple[Data, dict[str, int]] | None",
    target: Path | None,
    as_json: bool,
    encoder: "Encoder | None",
    columns: dict[str, str],
) -> None:
    from training.cli import data_tables
    from training.data.report import as_json as plain

    fixed = {"file": str(target), "rows": len(done[0]), "done": done[1]} if done else None
    if as_json:
        whole = plain(report) | {"model": encoder.name if encoder else None, "fixed": fixed}
        print_json(whole | {"columns": columns})
        return
    data_tables.show(report, encoder.name if encoder else "", fixed)
