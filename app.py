"""Front door: the page, the command line and (on a Space) `demo`, put together from the three wings.

Imports stay inside functions: a verb loads what it needs, the page never loads torch.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eval.cli import evaluate, leaderboard
from playground.cli.chat import chat
from playground.cli.context import Program
from playground.cli.models import models
from playground.cli.serve import WithFlags
from playground.cli.serve import serve as serve_api
from playground.errors import MadangError, refused
from playground.escape import guard_rich, visible
from playground.settings import (
    ONLINE,
    ChildEnvironment,
    Environment,
    Settings,
    child_environment,
    load_settings,
    set_defaults,
)
from playground.system.ports import check_port
from playground.wording import packed
from training.cli.data import data as data_verbs
from training.cli.demo import demo as demo_verbs
from training.cli.demo import ensure
from training.cli.export import export
from training.cli.train import runs, train

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from playground.compare import Playground
    from playground.page.components import Tab
    from training.export.card import Score

PROGRAM = [sys.executable, str(Path(__file__).resolve())]
"""The command that calls this program again, for work in a process of its own."""
PRIVATE = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,::1,fc00::/7"
"""Addresses of a Space's proxies; no visitor comes from one."""

cli = typer.Typer(
    help="Ask a base model, its adapters and its GGUF builds side by side. Without a verb: the page.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli.command()(chat)
cli.add_typer(models, name="models")
cli.command("serve", cls=WithFlags)(serve_api)
cli.add_typer(demo_verbs, name="demo")
cli.command("eval")(evaluate)
cli.command()(leaderboard)
cli.command()(train)
cli.command()(runs)
cli.command("export")(export)
cli.add_typer(data_verbs, name="data")


@cli.callback(invoke_without_command=True)
def page(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="Folder for models, catalogue and logs (env MADANG_DATA).")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the page (env MADANG_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the page (env MADANG_PORT).")] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser on the page.")] = True,
) -> None:
    """Serve the page, or leave the settings to a verb."""
    _heed_space()
    settings = load_settings(data=data, host=host, port=port)
    context.obj = Program(
        settings,
        prepare=partial(ensure, settings),
        benchmark_texts=partial(benchmark_texts, settings),
        score_quick=partial(score_quick, settings),
        scores_of=partial(scores_of, settings),
    )
    if context.invoked_subcommand is None:
        serve(settings, open_browser=open_)


def benchmark_texts(settings: Settings, folder: Path | None = None) -> list[tuple[str, str]]:
    """Return KoBEST's questions, to search training data for, from the folder or from `kobest` in the data folder."""
    from eval.kobest import questions

    here = folder or settings.data / "kobest"
    return questions(here) if folder or here.is_dir() else []


def score_quick(settings: Settings, names: list[str]) -> bool:
    """Score variants on KoBEST's quick sample in a process of its own; what was scored before is not scored again."""
    command = [*PROGRAM, "--data", str(settings.data), "eval", "quick", "--no-speed", "--no-drift"]
    command += [part for name in names for part in ("--variant", name)]
    if (settings.data / "kobest").is_dir():
        command += ["--data", str(settings.data / "kobest")]
    return subprocess.run(command, check=False, env=child_environment({}, keys=ONLINE)).returncode == 0


def scores_of(settings: Settings, names: Sequence[str]) -> "list[Score]":
    """Return the scores of these variants from the data folder's result files; none where these cannot be read."""
    from eval.results import load
    from training.export.card import Score

    with suppress(MadangError):
        found = [result for result in load(settings.data / "results").current if result.variant in names]
        newest = sorted(found, key=lambda one: (not one.partial, one.date))  # a whole run before a part of one
        rows = {(one.variant, one.task, one.metric, one.shots, one.chat, one.system): one for one in newest}
        return [
            Score(one.task, one.metric.removesuffix(",none"), one.value, one.n, one.shots, one.variant)
            for one in rows.values()
        ]
    return []


def serve(settings: Settings, open_browser: bool) -> None:
    """Prepare what is missing, then serve the page, and the API on its port, until they are stopped."""
    from playground.compare import Playground
    from playground.server.guards.keys import check_binding
    from playground.server.serving import serve as serve_app

    if settings.mode == "local":
        check_binding(settings)
    check_port(settings.host, settings.port)
    ensure(settings)

    inbrowser = open_browser and sys.stdout.isatty() and not Environment().ci
    playground = Playground(settings)
    try:
        serve_app(together(playground), playground, inbrowser=inbrowser)
    finally:
        playground.close()


def together(playground: "Playground") -> "FastAPI":
    """Return one app: the API where this machine serves it, and the page on every path that is left."""
    from fastapi import FastAPI

    from playground.server.app import create, is_served_beside_the_page
    from playground.ui.door import shut
    from playground.ui.page import build as build_page
    from playground.ui.page import launch_options, mounted
    from playground.ui.visitors import Gate

    settings, wings = playground.settings, tabs(playground.settings)
    app = create(playground) if is_served_beside_the_page(settings) else FastAPI(openapi_url=None)
    page = build_page(playground, settings, wings, PROGRAM)
    if settings.mode == "space":
        app.add_middleware(Gate, queue=page._queue)
    shut(app, settings)
    return mounted(app, page, settings, launch_options(settings, wings))


def build(settings: Settings, wings: "Sequence[Tab] | None" = None) -> "gr.Blocks":
    """Build the page with the wings' tabs; its launcher hands the same tabs to `launch_options`."""
    from playground.compare import Playground
    from playground.ui.page import build as build_page

    return build_page(Playground(settings), settings, tabs(settings) if wings is None else wings, PROGRAM)


def tabs(settings: Settings) -> "list[Tab]":
    """Return the wings' own tabs; a Space shows results and starts no runs."""
    from eval.ui import board_tab, run_tab
    from eval.words import LOCALES
    from playground.page.components import Tab
    from training.ui import export_tab, train_tab
    from training.words import LOCALES as TRAINING_LOCALES

    found = [Tab("leaderboard", partial(board_tab.render, settings), LOCALES)]
    if settings.mode == "local":
        found.append(Tab("evaluate", partial(run_tab.render, settings, PROGRAM)))
        found.append(Tab("train", partial(train_tab.render, settings, PROGRAM), TRAINING_LOCALES))
        found.append(Tab("export", partial(export_tab.render, settings, PROGRAM)))
    return found


def space() -> "gr.Blocks":
    """Make the embedded models, then build the page; on a Hugging Face Space, in Space mode."""
    _heed_space()
    settings = load_settings()
    ensure(settings)
    return build(settings)


def _heed_space() -> None:
    """Where nothing else is said, a Hugging Face Space gets its own mode, open to the proxy in front of it."""
    if Environment().space_id:
        set_defaults(MADANG_MODE="space", MADANG_HOST="0.0.0.0", FORWARDED_ALLOW_IPS=PRIVATE)


def __getattr__(name: str) -> Any:
    """Build `app.demo`, which Spaces and `gradio app.py` look for, when it is first asked for."""
    if name == "demo":
        globals()["demo"] = space()
        return globals()["demo"]
    raise AttributeError(f"module 'app' has no attribute {name!r}")


def _ended(error: MadangError) -> int:
    """Tell what ended a command, in the terminal's language; one that is a job keeps it for the page's reader."""
    from playground.cli.language import ending

    sys.stderr.write(visible(ending(error)))
    if file := ChildEnvironment().madang_error_file:
        with suppress(OSError):
            Path(file).write_text(json.dumps([packed(error.message), packed(error.hint)]), encoding="utf-8")
    return 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; a MadangError becomes two lines and a 2."""
    guard_rich()
    if isinstance(sys.stdout, TextIOWrapper):
        # a console in CP949 has no signs for much of what others write
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        cli(arguments)
    except Exception as error:
        told = error if isinstance(error, MadangError) else refused(error)
        if told is None:
            raise
        return _ended(told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
