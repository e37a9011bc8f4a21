"""`madang train` and `madang runs`: begin a fine-tune, watch it, go on with one. Prints; others decide."""

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from playground.catalogue.templates import can_chat
from playground.catalogue.variants import Catalogue
from playground.cli.context import Program, print_json, program, say
from playground.errors import ConfigError, SetupError
from playground.settings import Settings
from playground.system.interrupts import asked_to_stop
from playground.system.progress import ProgressFile
from training.run.folders import Progress

if TYPE_CHECKING:
    from training.cli.live import Live
    from training.recipe import Recipe
    from training.run.preparing import Prepared
    from training.run.runs import Run

Told = ProgressFile[Progress]


def train(  # noqa: PLR0913 - a parameter an option
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's file, or one that comes along; with --resume, a run.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One field: --set trainer.max_steps=20; repeat it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen, and do nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run; without a name, the newest.")] = False,
    kobest: Annotated[Path | None, typer.Option(help="KoBEST's TSV files, to find its questions in the data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: one JSON object.")] = False,
    progress: Annotated[Path | None, typer.Option("--progress", hidden=True)] = None,
) -> None:
    """Fine-tune: turn data into an adapter that stands beside its base."""
    ours = program(context)
    settings = ours.settings
    told = ProgressFile(progress, Progress())
    if resume:
        _go_on(ours, _resumed(settings, recipe, set_ or []), told)
        return
    from training import recipe as recipes

    if not recipe:
        raise ConfigError("Which recipe?", f"Give a YAML file, or one of: {', '.join(recipes.names())}.")
    chosen = recipes.load(recipes.find(recipe), set_ or [])
    _embedded(ours, chosen.model)
    prepared = _look(ours, chosen, kobest, told, weights=not dry_run)
    if dry_run:
        _show(prepared, settings.data, as_json)
        return
    _check_room(settings, prepared)
    run = _begin(settings, prepared)
    told.tell(run=run.name)
    _go_on(ours, run, told)


def runs(context: typer.Context) -> None:
    """List the fine-tunes, the newest first, and what became of them."""
    from training.run import runs as folders

    table = Table("run", "method", "model", "state", "step", "adapter", box=None, pad_edge=False)
    for run in folders.listed(program(context).settings):
        state = run.state()
        try:
            recipe = run.recipe()
        except ConfigError:
            continue
        steps = f"{state.step}/{state.steps}" if state.steps else ""
        cells = (run.name, recipe.method, recipe.model, state.status, steps, state.variant)
        table.add_row(*map(Text, cells))
    Console().print(table)


def _embedded(ours: Program, model: str) -> None:
    """Have the embedded models made where the recipe's base is one of them; refuse what is no base first."""
    from playground.catalogue.variants import Catalogue
    from training.run.registering import find_base

    find_base(ours.settings, model)
    if model in Catalogue.load(ours.settings).names:
        ours.prepare_embedded([model])


def _look(ours: Program, recipe: "Recipe", kobest: Path | None, told: Told, weights: bool) -> "Prepared":
    from training.run import preparing

    console = Console(stderr=True)
    with console.status("Starting") as status:

        def progress(what: str) -> None:
            status.update(Text(what))
            told.tell(stage=what)

        return preparing.look(ours.settings, recipe, lambda _: ours.benchmark_texts(kobest), progress, weights)


def _check_room(settings: Settings, prepared: "Prepared") -> None:
    """Refuse what the disk cannot hold; say what may not fit into memory, which the guards can do something about."""
    from training.run import memory

    machine = memory.machine(settings.data)
    for verdict in memory.verdicts(prepared.estimate, machine):
        if verdict.fits:
            continue
        said = f"{memory.size(verdict.need)} of {verdict.place.upper()} needed, {memory.size(verdict.have)} free"
        if verdict.place == "disk":
            raise SetupError(
                f"The run does not fit on the disk: {said} at {settings.data}.",
                "Free some space, keep fewer checkpoints (trainer.save_total_limit), or choose MADANG_DATA.",
            )
        warning = f"It may not fit: {said}. Out of memory does not lose a run: it goes on with a smaller batch."
        say(Console(stderr=True), warning, "yellow")


def _begin(settings: Settings, prepared: "Prepared") -> "Run":
    from playground.system.atomic import remove
    from training.run import preparing
    from training.run import runs as folders

    run = folders.create(settings, prepared.recipe)
    try:
        preparing.write(run, prepared)
    except BaseException:
        remove(run.folder)
        raise
    return run


def _resumed(settings: Settings, name: str, sets: list[str]) -> "Run":
    """Return the run to go on with; a recipe's name means its newest run, and must say what that run says."""
    from training import recipe as recipes
    from training.run import runs as folders

    if sets:
        raise ConfigError(
            f"--set {sets[0]} does not go with --resume: a run goes on as it began.",
            "Start a new run, or leave --set out.",
        )
    if name.endswith((".yaml", ".yml")) or name in recipes.names():
        written = recipes.load(recipes.find(name))
        found = [run for run in folders.listed(settings) if run.recipe().name == written.name]
        if not found:
            raise ConfigError(f"No run was begun with the recipe {name}.", "`madang runs` lists them.")
        if differs := _differences(written, found[0].recipe()):
            raise ConfigError(
                f"{found[0].name} was begun with another recipe: {'; '.join(differs)}.",
                f"Go on as it began: madang train --resume {found[0].name}. Or start anew, without --resume.",
            )
        return found[0]
    return folders.find(settings, name)


def _differences(written: "Recipe", began: "Recipe") -> list[str]:
    """Return what a recipe says now that a run's does not; what it leaves to defaults does not count."""
    now, then = written.model_dump(exclude_defaults=True), began.model_dump()
    rows = []
    for key, value in now.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for name, said in parts:
            had = then[key].get(name) if name else then[key]
            if said != had:
                rows.append(f"{key}{'.' if name else ''}{name} is {said!r} now and was {had!r}")
    return rows


def _go_on(ours: Program, run: "Run", told: Told) -> None:
    """Train to the end, or until it is stopped; then the adapter joins the catalogue."""
    from training.cli.live import Live
    from training.run import registering
    from training.trainer import supervise

    settings = ours.settings
    told.tell(run=run.name, stage="training")
    recipe, console = run.recipe(), Console(stderr=True)
    say(console, f"Run {run.name}: {run.folder}", "dim")
    with run.locked():
        if recipe.kobest:
            _score(ours, [recipe.model])
        if run.state().status != "done" or not run.adapter.exists():
            with asked_to_stop() as asked, Live(run, console) as live:
                ended = supervise.train(run, partial(_watched, live, asked), settings.threads)
            if ended == "stopped":
                say(console, f"Stopped. madang train --resume {run.name} goes on from step {run.state().step}.")
                raise typer.Exit(1)
        name = registering.register(settings, run)
    told.tell(variant=name)
    for event in run.events():
        if event.kind in ("overfitting", "out_of_memory"):
            say(console, event.message, "yellow")
    base = registering.base_of(settings, name)
    catalogue = Catalogue.load(settings)
    is_asked = can_chat(catalogue.get(name), catalogue)
    say(console, f"Trained {name}." + (f" Try it: madang chat -v {base} -v {name}" if is_asked else ""))
    if recipe.kobest:
        _score(ours, [base, name])


def _watched(live: "Live", asked: threading.Event) -> bool:
    live.refresh()
    return asked.is_set()


def _score(ours: Program, names: list[str]) -> None:
    if not ours.score_quick(names):
        say(Console(stderr=True), "KoBEST could not be run; the training goes on without it.", "yellow")


def _show(prepared: "Prepared", data: Path, as_json: bool) -> None:
    from training.cli import dry_run

    if as_json:
        print_json(dry_run.as_json(prepared, data))
    else:
        dry_run.show(prepared, data, Console())
