"""How fine-tunes look on the page: the one that runs, with its curves, and a line for each of the earlier ones."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from playground.escape import Markup, escaped
from playground.page import cards
from playground.page.markup import button, chat_button, tab_button
from playground.page.number import duration
from playground.page.words import read
from playground.settings import Settings
from training.run.folders import Event, Progress
from training.run.runs import seconds_left
from training.ui import deleting
from training.ui.plots import Series, chart
from training.ui.reports import stage
from training.ui.rows import Asked, can_be_asked, chosen, earlier
from training.ui.runs import RunRow, everything
from training.words import both, card, texts

Rows = Sequence[Mapping[str, Any]]
REWARDED = {
    "reward": "reward",
    "eval_reward": "eval_reward",
    "kl": "kl",
    "length": "completions/mean_length",
}
"""What GRPO is followed by -> its metric."""


def html(settings: Settings, viewed: str = "", owner: str = "") -> tuple[str, str]:
    """Return the fine-tune that is viewed, else this browser's newest; and all of the machine's, one line each."""
    found = everything(settings)
    shown = chosen(found, viewed, owner)
    lines = earlier(found, both("train.earlier"), lambda one: _line(one, one is shown))
    lines += deleting.uploads(settings)
    return _card(shown, partial(can_be_asked, settings)) if shown else cards.nothing(texts, "train.empty"), lines


def _card(one: RunRow, can_chat: Asked) -> str:
    rows = one.folder.metrics() if one.folder else []
    body = {"preparing": _preparing, "running": _running, "cancelling": _running, "elsewhere": _running}
    shown = body.get(one.standing, partial(_ended, can_chat))(one, rows)
    rest = (_curves(one, rows) + _events(one)) if one.folder else ""
    log = cards.log(one.job, live=one.active)
    return f'<section class="job run {one.standing}"><header>{_head(one)}</header>{shown}{rest}{log}</section>'


def _head(one: RunRow) -> str:
    word, when = both(f"train.state_{one.standing}"), cards.when(one.job, one.started)
    return cards.head(one.standing, word, *_called(one), when)


def _called(one: RunRow) -> tuple[str, list[str]]:
    """Return its name, and method and model."""
    about: Mapping[str, Any] = one.job.about if one.job else {}
    method, model = str(about.get("method", "")), str(about.get("model", ""))
    if recipe := one.recipe:
        method, model = recipe.method, recipe.model
    chips = [both(f"method.{method}")] if f"method.{method}" in texts else []
    return one.folder.name if one.folder else str(about.get("title", "")), [*chips, *([model] if model else [])]


def _line(one: RunRow, shown: bool) -> str:
    assert one.folder is not None
    state = one.folder.state()
    steps = f'<span class="steps">{state.step:,} / {state.steps:,}</span>' if state.steps else ""
    adapter = f'<span class="made">{escaped(state.variant)}</span>' if state.variant else ""
    look = button("show", one.name, both("train.show")) if not shown else ""
    gone = "" if one.active else deleting.press("run", one.name)
    return f'<div class="{one.standing}">{_head(one)}{steps}{adapter}{look}{gone}</div>'


def _preparing(one: RunRow, rows: Rows) -> str:
    assert one.job is not None
    training = one.job.progress(Progress).stage == "training"
    step = both("train.loading") if training else stage(one.job)
    return cards.under_way(step, None, (), _stop(one))


def _running(one: RunRow, rows: Rows) -> str:
    steps = one.folder.state().steps if one.folder else 0
    step = int(rows[-1]["step"]) if rows else 0
    words = (
        both("train.stopping") if one.standing == "cancelling" else both("train.step", step=step, steps=steps or "?")
    )
    left = seconds_left(rows, steps)
    numbers = [both("train.left", time=duration(left))] if left is not None and one.standing == "running" else []
    return cards.under_way(words, step / steps if steps else None, [*numbers, *_numbers(rows)], _stop(one))


def _stop(one: RunRow) -> str:
    return cards.cancel(one.job, "stop", both("train.stop"))


def _numbers(rows: Rows) -> Iterator[Markup]:
    """Return what the newest steps say, for who does not read curves."""
    newest: dict[str, float] = {}
    for row in rows:
        newest |= {name: value for name, value in row.items() if isinstance(value, int | float)}
    if rewarded := [name for name in REWARDED if REWARDED[name] in newest]:
        for name in rewarded:
            yield both(f"train.{name}", value=_number(newest[REWARDED[name]]))
        return
    if "loss" in newest:
        yield both("train.loss", value=f"{newest['loss']:.3f}")
    if "eval_loss" in newest:
        yield both("train.eval", value=f"{newest['eval_loss']:.3f}")
    if "rewards/margins" in newest:
        yield both("train.margin", value=f"{newest['rewards/margins']:.3f}")


def _ended(can_chat: Asked, one: RunRow, rows: Rows) -> str:
    """Return how it ended, what that means, and what can be done now."""
    standing, state = one.standing, one.folder.state() if one.folder else None
    counted = list(_numbers(rows))
    if standing in ("done", "finishing") and state:
        return _done(one, state.variant, counted, can_chat)
    failed = standing == "failed" or (one.job is not None and one.job.state == "failed")
    fault = card("train.failed", *one.error()) if failed else ""
    step = state.step if state else 0
    words = both(f"train.kept_{standing}" if step else f"train.nothing_{standing}", step=step) if state else ""
    again = button("resume", one.name, both("train.resume"), "go") if one.folder else ""
    note = f'<p class="step">{words}</p>' if words else ""
    return f"{fault}{note}{cards.footer(counted, again)}"


def _done(one: RunRow, variant: str, counted: Sequence[Markup], can_chat: Asked) -> str:
    kobest = one.recipe is not None and one.recipe.kobest
    if one.standing == "finishing":
        words = both("train.scoring" if kobest else "train.finishing")
        return cards.under_way(words, None, counted, _stop(one))
    fault = card("train.failed", *one.error()) if one.job and one.job.state == "failed" else ""
    if not variant:
        again = button("resume", one.name, both("train.register"), "go")
        return f'{fault}<p class="step">{both("train.no_adapter")}</p>{cards.footer(counted, again)}'
    board = tab_button("leaderboard", both("train.to_leaderboard"), kind="") if kobest else ""
    chat = chat_button(variant, both("train.to_chat")) if can_chat(variant) else ""
    words = both("train.made", variant=Markup(f"<code>{escaped(variant)}</code>"))
    judge = tab_button("evaluate", both("train.to_evaluate"), "", variant)
    make = tab_button("export", both("train.to_export"), "", variant)
    return f'{fault}<p class="step made">{words}</p>{cards.footer(counted, board + judge + make + chat)}'


def _curves(one: RunRow, rows: Rows) -> str:
    """Return loss, margin, learning rate, speed and memory by step."""
    assert one.folder is not None
    steps = one.folder.state().steps
    memory = "gpu_gib" if any("gpu_gib" in row for row in rows) else "ram_gib"
    wide = {"loss": ("loss", "eval_loss"), "margin": ("rewards/margins", "eval_rewards/margins")}
    small: dict[str, tuple[str, Callable[[float], str]]] = {
        "learning_rate": ("learning_rate", _rate),
        "tokens": ("tokens_per_s", "{:,.0f}".format),
        "memory": (memory, "{:.2f}".format),
    }
    drawn = ""
    if any(isinstance(row.get("reward"), int | float) for row in rows):  # GRPO's loss is about nought, come what may
        wide = {"reward": ("reward", "eval_reward")}
        small = {name: (REWARDED[name], _number) for name in ("kl", "length")} | small
    for name, (train, held_out) in wide.items():
        curves = [Series("train", _points(rows, train), calm=True), Series("eval", _points(rows, held_out))]
        drawn += chart(name, curves, steps, _number, wide=True)
    for name, (metric, written) in small.items():
        drawn += chart(name, [Series("train", _points(rows, metric))], steps, written)
    return f'<div class="curves">{drawn}</div>' if drawn else ""


def _points(rows: Rows, name: str) -> list[tuple[float, float]]:
    found = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    return [(float(step), float(value)) for step, value in found if math.isfinite(value)]


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _rate(value: float) -> str:
    return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e") if value else "0"


def _events(one: RunRow) -> str:
    """Return what it met, in words; what the data check found is told where the data is looked at."""
    assert one.folder is not None
    shown = [event for event in one.folder.events() if event.kind not in ("data", "failed")]
    return cards.events(map(_event, shown[-6:]))


def _event(event: Event) -> str:
    if event.kind == "overfitting" and event.step is not None and event.best is not None:
        figure = "_reward" if "evaluation reward" in event.message else ""
        return both(f"event.overfitting{figure}", step=event.step, best=event.best)
    if event.kind == "out_of_memory" and event.before and event.after:
        before, after = event.before, event.after
        changed = next(
            (name for name in ("rank", "max_length", "batch", "checkpointing") if after[name] != before[name]), ""
        )
        if changed:
            was = {f"was_{name}": value for name, value in before.items()}
            return both(f"event.less_{changed}", **was, **after)
    return read(event.message)
