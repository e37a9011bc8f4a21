"""Stands in for `madang` behind the Train tab: answers at once, and trains nothing. Run folders are real ones."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from playground.catalogue import variants
from playground.catalogue.variants import Adapter
from playground.settings import Settings
from training import recipe as recipes
from training.run import runs
from training.run.runs import Model, Run

STEPS = 100
SLOW_S, FAST_S = 0.5, 0.01
"""A step of a run that a test stops, and of one that it waits for: a resumed one."""
REPORT: dict[str, Any] = {
    "name": "rows.jsonl",
    "format": "alpaca",
    "kind": "conversation",
    "rows": 1200,
    "fatal": False,
    "findings": [
        {
            "check": "duplicates",
            "severity": "warning",
            "rows": list(range(1, 13)),
            "message": "12 rows the same as an earlier one",
            "remedy": "--fix keeps the first of each.",
            "fix": True,
            "count": 12,
        },
        {
            "check": "new",
            "severity": "note",
            "rows": [],
            "message": "odd <b>",
            "remedy": "none",
            "fix": False,
            "count": 0,
        },
    ],
    "lengths": {
        "rows": 1200,
        "total": 120000,
        "mean": 100.0,
        "median": 96.0,
        "p95": 180.4,
        "p99": 240.0,
        "maximum": 900,
        "recommended": 192,
        "context": 8192,
        "histogram": {"edges": [0, 60, 120, 180, 900], "counts": [200, 700, 250, 50]},
    },
    "previews": [{"row": 1, "parts": [{"text": "<|user|> Hi?", "learnt": False}, {"text": "Hello!", "learnt": True}]}],
    "model": "a",
    "fixed": None,
}


def dry(recipe: recipes.Recipe) -> dict[str, Any]:
    """What a dry run prints; RAM does not fit, and a smaller batch helps."""
    parts = [{"name": "weights", "size": 6 << 30}, {"name": "activations", "size": 4 << 30}]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "yaml": recipes.dump(recipe),
        "engine": "peft",
        "parameters": {"trainable": 41943040, "total": 8072204288, "share": 0.0052},
        "rows": 1080,
        "held_out": 120,
        "steps": 405,
        "plan": {"batch": 2, "accumulation": 4, "checkpointing": False, "max_length": 192, "rank": 16, "attempt": 1},
        "memory": [
            {"place": "ram", "need": 10 << 30, "have": 8 << 30, "fits": False, "parts": parts},
            {"place": "disk", "need": 1 << 30, "have": 80 << 30, "fits": True, "parts": []},
        ],
        "remedies": [{"name": "batch", "batch": 1, "length": 192, "fits": True}],
        "data": REPORT,
    }


def train(run: Run, progress: Path, step_s: float) -> int:
    """Steps as a trainer logs them, until the end or an interrupt; a stop leaves what was done."""
    stopped: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: stopped.append(number))
    settings = Settings(data=run.folder.parent.parent)
    progress.write_text(json.dumps({"run": run.name, "stage": "training"}), encoding="utf-8")
    begun = run.state().step
    run.tell(status="running", step=begun, steps=STEPS)
    for step in range(begun + 1, STEPS + 1):
        log(run, {"step": step, "loss": 2 - 0.01 * step, "learning_rate": 2e-4, "tokens_per_s": 100.0, "ram_gib": 1.5})
        time.sleep(step_s)
        if stopped:
            run.tell(status="stopped", step=step, ended=time.time())
            sys.stdout.write("Stopped.\n")
            return 1
    log(run, {"step": STEPS, "eval_loss": 1.1})
    name = f"{run.recipe().model}:{run.recipe().name}"
    variants.add(settings, Adapter(name=name, source="fake:x", base=run.recipe().model))
    run.tell(status="done", step=STEPS, ended=time.time(), variant=name)
    return 0


def log(run: Run, row: dict[str, Any]) -> None:
    """A line of metrics.jsonl."""
    with (run.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"at": time.time(), **row}) + "\n")


def main(arguments: list[str]) -> int:
    """`--data FOLDER`, then a verb of those that the tab calls."""
    settings, rest = Settings(data=Path(arguments[1])), arguments[2:]
    if rest[:2] == ["data", "check"]:
        if "odd" in Path(rest[2]).name and "--column" not in rest:
            columns = {"물음": "하나?", "대답": "둘"}
            sys.stdout.write(json.dumps({"unread": True, "columns": columns}) + "\nerror: In no known format.\n")
            return 2
        sys.stdout.write(json.dumps(REPORT) + "\n")
        return 0
    progress = Path(rest[rest.index("--progress") + 1])
    if rest[1] == "--resume":
        return train(runs.find(settings, rest[2]), progress, FAST_S)
    recipe = recipes.load(Path(rest[1]))
    if "--dry-run" in rest:
        sys.stdout.write("a warning of some library\n" + json.dumps(dry(recipe)) + "\n")
        return 0
    run = runs.create(settings, recipe)
    run.write("model.json", Model(name=recipe.model, source="s", folder="f", context=1).model_dump_json())
    return train(run, progress, SLOW_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
