"""Show what a run would be, without doing it: recipe, parameters, memory, data, and the first rendered rows."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from playground.system.hardware import MIB
from training import recipe as recipes
from training.cli import data_tables
from training.data import report as reports
from training.methods import METHODS
from training.run import memory
from training.run.preparing import Prepared


def show(prepared: Prepared, folder: Path, console: Console) -> None:
    """Print a prepared run for people; `folder` is where runs are kept."""
    console.print(Syntax(recipes.dump(prepared.recipe), "yaml", background_color="default"))
    for line in lines(prepared):
        console.print(Text(line), soft_wrap=True)
    console.print()
    for line in estimate_lines(prepared, folder):
        console.print(Text(line), soft_wrap=True)
    console.print()
    if prepared.report.findings:
        console.print(data_tables.findings(prepared.report.findings))
    if prepared.report.lengths is not None:
        for line in data_tables.lengths(prepared.report.lengths):
            console.print(Text(line), soft_wrap=True)
    for preview in prepared.report.previews:
        console.print(Text(f"\n{data_tables.title(preview)}", "bold"))
        console.print(data_tables.preview(preview), soft_wrap=True)


def lines(prepared: Prepared) -> Iterator[str]:
    """Yield lines on parameters, rows and steps."""
    counted, plan, recipe = prepared.parameters, prepared.plan, prepared.recipe
    yield (
        f"Trainable: {counted.trainable:,} of {counted.total:,} parameters ({counted.share:.2%}), rank {plan.rank}, "
        f"with {'Unsloth' if prepared.engine == 'unsloth' else 'PEFT and TRL'}"
    )
    if counted.untied:
        yield (
            "Tied: the base keeps embeddings and output layer as one table. What is trained here reaches one of them "
            f"alone, as in PEFT; a merged model keeps two, {counted.untied:,} parameters more"
        )
    held = f", {len(prepared.evaluation):,} held out" if prepared.evaluation is not None else ""
    rows = f"Data: {len(prepared.train):,} rows ({prepared.report.data.format}){held}"
    if METHODS[recipe.method].rewarded:
        yield from _answer_lines(prepared, rows)
        return
    yield f"{rows}, cut at {plan.max_length} tokens"
    devices = f" x {recipe.devices} devices" if recipe.devices > 1 else ""
    yield (
        f"Steps: about {prepared.steps:,}, each of {recipe.effective_batch} rows "
        f"(batch {plan.batch} x accumulation {plan.accumulation}{devices})"
    )


def _answer_lines(prepared: Prepared, rows: str) -> Iterator[str]:
    """Yield lines on prompts, answers and rewards."""
    recipe, plan, trainer = prepared.recipe, prepared.plan, prepared.recipe.trainer
    most, each = trainer["max_completion_length"], trainer["num_generations"]
    yield f"{rows}, prompts of at most {plan.max_length - most:,} tokens, answers of at most {most:,}"
    yield f"Reward: {', '.join(recipe.reward)}; it is code, which this dry run read and did not run"
    generated = prepared.steps * recipe.effective_batch // int(trainer.get("num_iterations") or 1)
    yield (
        f"Steps: about {prepared.steps:,}, each of {recipe.effective_batch} answers (batch {plan.batch} x "
        f"accumulation {plan.accumulation}); {prepared.prompts} prompts at once, {each} answers to each; "
        f"{generated:,} answers in all"
    )
    if left := len(prepared.train) % prepared.prompts:
        yield f"Of each epoch {left} prompts are left out, others each time: they fill no batch of {prepared.prompts}"
    if prepared.evaluation is not None:
        asked = trainer.get("num_generations_eval") or each
        answers = len(prepared.evaluation) * asked
        yield f"Evaluation: {answers:,} answers each time; trainer.num_generations_eval says how many to a prompt"


def estimate_lines(prepared: Prepared, folder: Path) -> Iterator[str]:
    """Yield lines on what it will take of each kind of memory, and what this machine has."""
    if (coming := prepared.download) is not None:
        about = "about " if coming.estimated else ""
        fits = "" if coming.size <= coming.free else ", which it does not fit into"
        yield (
            f"Weights: not here yet, {about}{memory.size(coming.size)} to come into {coming.folder} "
            f"({memory.size(coming.free)} free{fits})"
        )
    machine = memory.machine(folder)
    for verdict in memory.verdicts(prepared.estimate, machine):
        fits = "fits" if verdict.fits else "does not fit"
        yield (
            f"{verdict.place.upper()}: about {memory.size(verdict.need)} of {memory.size(verdict.have)} free: {fits} "
            f"({', '.join(_parts(prepared.estimate, verdict.place))})"
        )
    for remedy in memory.remedies(prepared.estimate, machine):
        yield f"  {remedy.name}: {remedy.estimate.plan.batch} x {remedy.estimate.plan.length}" + (
            ", fits" if remedy.fits else ""
        )


def _parts(estimate: memory.Estimate, place: str) -> Iterator[str]:
    for part in sorted(estimate.parts, key=lambda part: -part.size):
        if part.place == place and part.size >= MIB:
            yield f"{part.name} {memory.size(part.size)}"


def as_json(prepared: Prepared, folder: Path) -> dict[str, Any]:
    """Return the same as one JSON object, for the page."""
    counted, machine = prepared.parameters, memory.machine(folder)
    return {
        "recipe": prepared.recipe.model_dump(mode="json"),
        "yaml": recipes.dump(prepared.recipe),
        "engine": prepared.engine,
        "parameters": {
            "trainable": counted.trainable,
            "total": counted.total,
            "share": counted.share,
            "untied": counted.untied,
        },
        "rows": len(prepared.train),
        "held_out": 0 if prepared.evaluation is None else len(prepared.evaluation),
        "steps": prepared.steps,
        "plan": prepared.plan.model_dump(),
        "download": asdict(coming) | {"folder": str(coming.folder)} if (coming := prepared.download) else None,
        "memory": [
            {
                "place": verdict.place,
                "need": verdict.need,
                "have": verdict.have,
                "fits": verdict.fits,
                "parts": [
                    {"name": part.name, "size": part.size}
                    for part in prepared.estimate.parts
                    if part.place == verdict.place and part.size
                ],
            }
            for verdict in memory.verdicts(prepared.estimate, machine)
        ],
        "remedies": [
            {
                "name": remedy.name,
                "batch": remedy.estimate.plan.batch,
                "length": remedy.estimate.plan.length,
                "fits": remedy.fits,
            }
            for remedy in memory.remedies(prepared.estimate, machine)
        ],
        "data": reports.as_json(prepared.report),
    }
