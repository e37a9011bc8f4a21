"""The rewards that a recipe names, `file.py:function`: looked at before a run without being run, called in its trainer.

A reward is TRL's: f(prompts, completions, **columns) -> list[float | None], called with what it asks for.
"""

import ast
import inspect
import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from playground.errors import ConfigError, MadangError
from training.methods import METHODS
from training.recipe import Recipe

GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""What TRL hands over beside the columns."""
SHOWN = 60


class RewardError(MadangError):
    """A reward raised, or returned what is no reward."""


def check(recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with a recipe's rewards; their files are read and not run."""
    if not METHODS[recipe.method].rewarded:
        if recipe.reward:
            yield f"reward: {recipe.method} has none; say method: grpo, or leave it out."
        return
    if not recipe.reward:
        yield "reward: grpo needs one; write reward: my_reward.py:score, a function of the prompts and completions."
    for named in recipe.reward:
        file, _, name = named.rpartition(":")
        if not (file.endswith(".py") and name.isidentifier()):
            yield f"reward = {named!r}: write it as file.py:function."
        elif not Path(file).is_file():
            yield f"reward = {named!r}: there is no file {file}; the path is that from the recipe."
        elif fault := _fault(Path(file), name):
            yield f"reward = {named!r}: {fault}."
    weights = recipe.trainer.get("reward_weights")
    if weights is not None and len(weights) != len(recipe.reward):
        yield f"trainer.reward_weights: {len(weights)} weights for {len(recipe.reward)} rewards."


def _fault(file: Path, name: str) -> str:
    """Return what is wrong with a reward's file; empty where it defines the function."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        return f"line {getattr(error, 'lineno', None) or '?'} is no Python: {error}"
    if any(isinstance(node, ast.AsyncFunctionDef) and node.name == name for node in body):
        return "it is an async def; write def"
    known = {bound for node in body for bound in _bound(node)}
    return "" if name in known else f"{file.name} defines no {name}; it has {', '.join(sorted(known)) or 'nothing'}"


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement at the top of a file makes."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)


class Reward:
    """A reward that TRL calls; what it does wrong ends the run with its file, line and row. Runs the recipe's code.

    `columns`: the names of all columns that any row has.
    """

    def __init__(self, named: str, columns: Sequence[str]) -> None:
        file, _, self.__name__ = named.rpartition(":")
        self._file = Path(file)
        self._columns = columns
        if taken := [name for name in columns if name in GIVEN]:
            raise ConfigError(
                f"The data has a column {', '.join(taken)}, which is the name of what every reward is given.",
                "Give the column another name.",
            )
        self._function = self._loaded()
        takes = inspect.signature(self._function).parameters.values()
        self._all = any(one.kind is one.VAR_KEYWORD for one in takes)
        self._takes = {one.name for one in takes if one.kind is not one.VAR_POSITIONAL}
        known = {*GIVEN, *columns}
        needs = [one.name for one in takes if one.default is one.empty and one.kind not in (2, 4)]
        if strange := [name for name in needs if name not in known]:
            raise ConfigError(
                f"{self._file}, {self.__name__} asks for {', '.join(strange)}, and no row has such a column.",
                f"The data's columns are: {', '.join(columns) or 'none beside the prompt'}. Or give it a default.",
            )

    def _loaded(self) -> Callable[..., Any]:
        sys.path.append(str(self._file.parent))  # it may import what lies beside it
        try:
            spec = spec_from_file_location(f"reward_{self._file.stem}", self._file)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[spec.name] = module_from_spec(spec)
            spec.loader.exec_module(module)
            made: Callable[..., Any] = getattr(module, self.__name__)
        except Exception as error:
            raise self._error(self._line(error), f"cannot be loaded: {_said(error)}") from error
        if not callable(made):
            raise self._error(0, f"is {type(made).__name__} and no function")
        return made

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        held: Sequence[Mapping[str, Any]],
        row: Sequence[int],
        **given: Any,
    ) -> list[float | None]:
        """Return a score for each answer; `held` are the columns of its row, and `row` is the row's number."""
        told = [json.loads(one["told"]) for one in held]
        answers = [
            said if isinstance(asked, str) else [{"role": "assistant", "content": said}]
            for asked, said in zip(told, completions, strict=True)
        ]
        columns = [json.loads(one["columns"]) for one in held]
        whole = {"prompts": told, "completions": answers, "completion_ids": given.pop("completion_ids", None)}
        whole |= {name: [one.get(name) for one in columns] for name in self._columns}
        asked = {name: value for name, value in whole.items() if self._all or name in self._takes}
        beside = {name: value for name, value in given.items() if self._all or name in self._takes}
        try:
            scores = list(self._function(**asked, **beside))
        except Exception as error:
            where = self._row_of(asked, beside, row)
            raise self._error(self._line(error), f"raised {_said(error)}, {where}") from error
        if len(scores) != len(told):
            raise self._error(0, f"returned {len(scores)} scores for {len(told)} answers, {_rows(row)}")
        return [self._score(score, number) for score, number in zip(scores, row, strict=True)]

    def _score(self, score: Any, row: int) -> float | None:
        """Return a score as a number, or None for an answer that it leaves out."""
        if score is None:
            return None
        try:
            number = math.nan if isinstance(score, str | bytes) else float(score)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self._error(0, f"returned {str(score)[:SHOWN]!r}, which is no finite number, for row {row}")
        return number

    def _row_of(self, asked: Mapping[str, Any], beside: Mapping[str, Any], rows: Sequence[int]) -> str:
        """Return the row whose answer alone makes it raise, too; else all rows of the batch."""
        for place, row in enumerate(rows):
            one = {name: value[place : place + 1] for name, value in asked.items() if value is not None}
            try:
                self._function(**one, **beside)
            except Exception:  # noqa: BLE001 - any code may stand there
                return f"for row {row}"
        return _rows(rows)

    def _line(self, error: BaseException) -> int:
        """Return the last line of its file that an error went through."""
        if isinstance(error, SyntaxError):
            return error.lineno or 0
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == str(self._file)]
        return lines[-1] or 0 if lines else 0

    def _error(self, line: int, what: str) -> RewardError:
        code = getattr(getattr(self, "_function", None), "__code__", None)
        line = line or getattr(code, "co_firstlineno", 0)
        where = f"{self._file}, line {line}" if line else str(self._file)
        return RewardError(
            f"The reward {self.__name__} {what} ({where}).",
            "It must return one number, or None, for each answer. Correct it, then `madang train --resume`.",
        )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _rows(rows: Sequence[int]) -> str:
    return f"for rows {', '.join(map(str, dict.fromkeys(rows)))}"
