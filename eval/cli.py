"""The evaluation wing's verbs: `madang eval` and `madang leaderboard`. Print; others decide."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from eval.progress import Progress
from playground.catalogue.variants import Catalogue
from playground.cli.context import program, say
from playground.cli.language import fault, told
from playground.compare import Playground
from playground.errors import ConfigError
from playground.system.interrupts import asked_to_stop
from playground.system.progress import ProgressFile
from playground.wording import worded

if TYPE_CHECKING:  # the page imports this module, and statistics take their time
    from eval import leaderboard as boards
    from eval.runner import Plan
    from eval.suites import Suite

MARGIN_POINTS = 1.0
TO_BEGIN = "Score something first: madang eval quick --variant smollm2 --variant smollm2:demo"
Format = Literal["table", "markdown", "csv", "json"]
TasksOption = Annotated[str, typer.Option("--tasks", help="Only some of the suite's tasks: copa,wic.")]
MarginOption = Annotated[float, typer.Option(min=0.1, max=50, help="Points a build may lose and count as unharmed.")]


def evaluate(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help="kobest, quick, a suite's file, or any lm-eval task.")],
    variant: Annotated[list[str], typer.Option("--variant", "-v", help="A variant to score; repeat it.")],
    tasks: TasksOption = "",
    shots: Annotated[list[int] | None, typer.Option(help="Examples before each question; repeat it.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first documents of each task.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of KoBEST's official TSV files; else the Hub.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where lm-eval's files go; default: results in the data folder.")
    ] = None,
    chat_template: Annotated[bool, typer.Option("--chat-template", help="Ask through the chat template.")] = False,
    margin: MarginOption = MARGIN_POINTS,
    speed: Annotated[bool, typer.Option(help="Measure tokens/s and memory, too.")] = True,
    drift: Annotated[bool, typer.Option(help="Measure the drift of builds, too.")] = True,
    progress: Annotated[Path | None, typer.Option("--progress", hidden=True)] = None,
) -> None:
    """Score variants with lm-eval's tasks, side by side, and say what the difference is worth."""
    from eval import leaderboard as boards
    from eval.runner import Plan
    from eval.suites import find

    settings = program(context).settings
    chosen = find(suite).chosen([t.strip() for t in tasks.split(",") if t.strip()], shots, _positive(limit))
    folder = out or settings.data / "results"
    names = list(dict.fromkeys(variant))
    program(context).prepare_embedded(names)
    measures = (*(["speed"] if speed else []), *(["drift"] if drift else []))
    console = Console(file=sys.stderr)  # this very stream: the runner keeps others off it
    plans = [Plan(name, chosen, count, data, chat_template) for count in chosen.shots for name in names]
    told = ProgressFile(progress, Progress(runs=len(plans), plans=tuple((one.variant, one.shots) for one in plans)))
    _say_what_it_hides(console, chosen, chat_template)
    _score_all(Playground(settings), console, plans, (folder, measures), told)
    _print(boards.load(folder, Catalogue.load(settings), margin / 100).only(variants=names), wide=False)
    say(console, f"\nFiles: {folder}   All results: madang leaderboard", "dim")


def _positive(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit} leaves no document to score.", "Give 1 or more, or leave it out.")
    return limit


def _score_all(
    playground: Playground,
    console: Console,
    plans: "list[Plan]",
    where: tuple[Path, tuple[str, ...]],
    told: ProgressFile[Progress],
) -> None:
    """Run the plans one after another, with what is measured beside; Ctrl-C ends them with exit code 1."""
    from eval.runner import Run

    folder, measures = where
    try:
        with asked_to_stop() as cancelled, _bar(console, told) as bar:
            run = Run(playground, folder, bar.tell, cancelled.is_set, measures)
            for plan in plans:
                bar.begin(plan.variant, plan.shots)
                run.score(plan)
    except Exception as error:
        from eval.lm import Cancelled

        if not isinstance(error, Cancelled):
            raise
        say(console, "Cancelled. What was scored is kept: the same command goes on from there.")
        raise typer.Exit(1) from error
    finally:
        playground.close()


def _say_what_it_hides(console: Console, suite: "Suite", chat_template: bool) -> None:
    if not chat_template:
        say(
            console,
            "Without --chat-template the prompts are lm-eval's bare texts: comparable with published scores, but what "
            "a chat model was tuned for may not show.",
            "dim",
        )
    if suite.partial:
        say(console, "Only some documents are asked: these results are marked as partial.", "dim")


class _Bar:
    """One line for the run under way: its step, the share done, the time left."""

    def __init__(self, bars: Bars, told: ProgressFile[Progress]) -> None:
        self._bars = bars
        self._told = told
        self._task = bars.add_task("", total=None, left="", count="")
        self._name = ""

    def begin(self, variant: str, shots: int) -> None:
        """Show a new run."""
        self._name = f"{variant} · {shots} shots"
        loading = Progress(run=self._told.now.run + 1, variant=variant, shots=shots, step="loading")
        self._told.tell(**loading.model_dump(exclude={"runs", "plans"}))
        self._bars.reset(self._task, total=None, description=self._name, left="", count="")

    def tell(self, progress: Progress) -> None:
        """Show how far the run is."""
        self._told.tell(**progress.model_dump(include={"step", "done", "total", "left_s"}))
        left = "" if progress.left_s is None else f"{_duration(progress.left_s)} left"
        self._bars.update(
            self._task,
            description=f"{self._name} · {progress.step}",
            completed=progress.done,
            total=progress.total or None,
            left=left,
            count=f"{progress.done:,}/{progress.total:,}" if progress.total else "",
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


@contextmanager
def _bar(console: Console, told: ProgressFile[Progress]) -> Iterator[_Bar]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bar(bars, told)


def leaderboard(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="A folder of lm-eval's files; default: this program's.")] = None,
    variant: Annotated[list[str] | None, typer.Option("--variant", "-v", help="Names or patterns; repeat it.")] = None,
    tasks: TasksOption = "",
    shots: Annotated[int | None, typer.Option(help="Only runs with so many shots.")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Leave out partial runs.")] = False,
    sort: Annotated[str, typer.Option(help="mean, difference, size, speed, drift, n, variant or a task.")] = "",
    margin: MarginOption = MARGIN_POINTS,
    form: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = "table",
    wide: Annotated[bool, typer.Option("--wide", help="Every column, and every comparison in words.")] = False,
) -> None:
    """Every scored variant under its base: scores with intervals, and whether differences are real."""
    from eval import leaderboard as boards

    settings = program(context).settings
    where = folder or settings.data / "results"
    if folder is None and not where.is_dir():
        raise ConfigError("Nothing has been scored yet.", TO_BEGIN)
    found = boards.load(where, Catalogue.load(settings), margin / 100)
    for left_out in found.faults:
        say(Console(stderr=True), fault(left_out, f"{told(worded('terminal.left_out'))}: "), "yellow")
    named = [_task(found, task.strip()) for task in tasks.split(",") if task.strip()]
    board = found.only(variants=variant or (), shots=shots, tasks=named, whole=whole)
    if not board.rows:
        raise _no_rows(found, where)
    if sort:
        board = board.sorted(_task(board, sort))
    if form == "table":
        _print(board, wide)
    else:
        sys.stdout.write(_written(board, form))


def _task(board: "boards.Leaderboard", name: str) -> str:
    """Return `kobest_copa` for `copa`, where the board has that alone; any other name as it is."""
    there = {column.partition(" ")[0] for column in board.tasks}
    return f"kobest_{name}" if f"kobest_{name}" in there and name not in there else name


def _no_rows(board: "boards.Leaderboard", where: Path) -> ConfigError:
    """Return the error of a leaderboard without a row to show."""
    if not board.rows:
        return ConfigError(f"{where} holds no result of lm-eval.", TO_BEGIN)
    there = ", ".join(dict.fromkeys(f"{row.variant} ({row.shots} shots)" for row in board.rows))
    return ConfigError("No row of the leaderboard fits these options.", f"There are {there}.")


def _print(board: "boards.Leaderboard", wide: bool) -> None:
    """Print the table, then two lines on it; `wide`: all of the table, what its marks mean, every comparison."""
    from eval import tables

    console = Console()
    if wide:
        table = tables.terminal(board)
        Console(width=max(console.width, tables.room(table))).print(table)
        lines = [f"• {line}" for line in tables.sentences(board)]
    else:
        table = tables.terminal(board, width=console.width)
        table.caption = None
        console.print(table)
        lines = tables.in_brief(board, console.width)
    for line in lines:
        say(console, line)


def _written(board: "boards.Leaderboard", form: Format) -> str:
    from eval import tables

    if form == "markdown":
        return tables.markdown(board)
    return tables.csv_text(board) if form == "csv" else tables.json_text(board)
