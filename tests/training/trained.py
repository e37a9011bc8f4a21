"""Runs a recipe as `madang train` does, without the command line. Shared by the tests that train."""

from collections.abc import Callable
from pathlib import Path

from playground.settings import Settings
from training import recipe
from training.run import preparing, registering, runs
from training.run.runs import Run
from training.trainer import supervise

Train = Callable[..., Run]


def trainer(settings: Settings, models: Path) -> Train:
    """A function of a recipe's name or file and of its `--set`s; the embedded models are those of `models`."""
    settings.data.mkdir(parents=True, exist_ok=True)
    if not settings.models_dir.exists():
        settings.models_dir.symlink_to(models, target_is_directory=True)

    def train(name: str, *sets: str, until: str = "done") -> Run:
        run = begin(settings, name, *sets)
        if until == "begun":  # a test goes on by itself
            return run
        supervise.train(run, threads=settings.threads)
        registering.register(settings, run)
        return run

    return train


def begin(settings: Settings, name: str, *sets: str) -> Run:
    """A run that is ready to be trained."""
    prepared = preparing.look(settings, recipe.load(recipe.find(name), sets))
    run = runs.create(settings, prepared.recipe)
    preparing.write(run, prepared)
    return run


def losses(run: Run, key: str = "loss") -> list[float]:
    """A metric of every logged step that has it."""
    return [row[key] for row in run.metrics() if key in row]
