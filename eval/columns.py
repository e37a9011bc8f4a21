"""Say which column of a board a result stands in: its task, its metric where that is not accuracy, its version where
runs asked several. So nothing stands below its like that is none. Computes nothing.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace

from eval.kobest import LAYOUTS
from eval.results import Facts, Result
from eval.words import words

KOBEST = tuple(LAYOUTS)
ENDS = re.compile(r"(.+)_(stderr|low|high|f1|n|total|difference|p|holm|verdict|bound)")
"""How a sheet's names of what it says of a column end."""
OWN = {"variant", "kind", "base", "parent", "shots", "differs", "chat_template", "n", "partial", "mean"}
OWN |= {"difference", "size", "speed", "drift", *Facts.model_fields}
"""Names that a board's other columns have."""


def placed(results: Sequence[Result]) -> list[Result]:
    """Return the results with the names of their columns: `copa`, `gsm8k exact_match,strict-match`, `x acc (v2.0)`."""
    versions: dict[str, set[str]] = defaultdict(set)
    for one in results:
        versions[one.task].add(one.task_version)
    own = OWN | {said for language in ("en", "ko") for said in words(language).values()}
    taken = {task for task in versions if task in own or _ends(task, {*versions, "mean"})}
    return [replace(one, column=_name(one, len(versions[one.task] - {""}) > 1, one.task in taken)) for one in results]


def _ends(name: str, tasks: Container[str]) -> bool:
    """Return whether a sheet may say something of one of the tasks under this name."""
    while found := ENDS.fullmatch(name):
        name = found[1]
        if name in tasks:
            return True
    return False


def _name(one: Result, several: bool, taken: bool) -> str:
    metric = one.metric.removesuffix(",none")
    shown = one.task if metric == "acc" and not taken else f"{one.task} {metric}"
    if one.value > 1 and replace(one, value=1).is_share:
        shown = f"{one.task} {metric} (no share of 1)"
    return f"{shown} (v{one.task_version or '?'})" if several else shown


def ordered(results: Iterable[Result]) -> list[str]:
    """Return the columns: KoBEST's tasks in their order, then the others by name; metrics as the files have them."""
    names = dict.fromkeys(one.column for one in results)
    tasks = {one.column: one.task for one in results}

    def place(column: str) -> tuple[int, str, bool]:
        task = tasks[column]
        return KOBEST.index(task) if task in KOBEST else len(KOBEST), task, column != task

    return sorted(names, key=place)


def heads(results: Sequence[Result]) -> list[str]:
    """Return the column that stands for each task in a mean: accuracy, else exact match, else its first metric."""
    found: dict[str, str] = {}
    for wanted in ("acc", "exact_match", ""):
        for one in results:
            if not one.is_group and (not wanted or one.metric.partition(",")[0] == wanted):
                found.setdefault(one.task + one.task_version, one.column)
    return [column for column in ordered(results) if column in found.values()]
