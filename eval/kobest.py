"""Read KoBEST's rows from the TSV files its authors publish, as the Hub's `skt/kobest_v1` gives them. Not its prompts.

The Hub's rows came out of these files through `pandas.read_csv(sep="\\t").dropna()`: a field that begins with a quote
is CSV-quoted, labels are spelled True or TRUE, strings keep their spaces. Read here by hand, so that errors name lines.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.errors import MadangError, UnknownNameError
from playground.system.atomic import explained, replacing

Row = dict[str, str | int]
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
"""lm-eval's and the Hub's name of a split -> the authors' file name."""
WHERE = "github.com/SKT-LSL/KoBEST_datarepo (folder v1.0)"
TRUTH = {"true": 1, "false": 0}


def _truth(text: str) -> int:
    return TRUTH[text.lower()]


def _between(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of labels that are written as whole numbers low..high; it counts from 0."""
    names = {str(number): number - low for number in range(low, high + 1)}
    return lambda text: names[text]


@dataclass(frozen=True)
class Layout:
    """One task's folder, its columns as field -> column, and how its labels are written."""

    folder: str
    columns: dict[str, str]
    label: str
    read_label: Callable[[str], int]
    labels: str


LAYOUTS = {
    "kobest_boolq": Layout("BoolQ", {"paragraph": "Text", "question": "Question"}, "Answer", _truth, "True or False"),
    "kobest_copa": Layout(
        "COPA",
        {"premise": "sentence", "question": "question", "alternative_1": "1", "alternative_2": "2"},
        "Answer",
        _between(1, 2),
        "1 or 2",
    ),
    "kobest_hellaswag": Layout(
        "HellaSwag",
        {"context": "context"} | {f"ending_{number}": f"choice{number}" for number in range(1, 5)},
        "label",
        _between(0, 3),
        "0, 1, 2 or 3",
    ),
    "kobest_sentineg": Layout("SentiNeg", {"sentence": "Text"}, "Label", _between(0, 1), "0 or 1"),
    "kobest_wic": Layout(
        "WiC",
        {"word": "Target", "context_1": "SENTENCE1", "context_2": "SENTENCE2"},
        "ANSWER",
        _truth,
        "True or False",
    ),
}


class DataError(MadangError):
    """A benchmark's rows are missing or broken."""


def read(data: Path, task: str, split: str) -> list[Row]:
    """Read one split of a task with the Hub's field names, in the file's order; labels are whole numbers from 0."""
    if task not in LAYOUTS:
        raise UnknownNameError("KoBEST task", task, LAYOUTS)
    path = _path(data, task, split)
    layout = LAYOUTS[task]
    rows = [
        _row(path, line, fields, layout) for line, fields in _records(path, [*layout.columns.values(), layout.label])
    ]
    if not rows:
        raise DataError(f"{path} holds no rows below its header.", f"The whole file is at {WHERE}.")
    return rows


def questions(data: Path) -> list[tuple[str, str]]:
    """Return (task, text) of what the test splits ask, to be searched for; tasks without a file are left out."""
    found = []
    for task, layout in LAYOUTS.items():
        if not (data / layout.folder / f"{SPLITS['test']}.tsv").is_file():
            continue
        texts = [name for name in layout.columns if name not in ("question", "word") and "ending" not in name]
        found += [(task, str(row[name])) for row in read(data, task, "test") for name in texts]
    if not found:
        raise DataError(f"{data} holds no test split of KoBEST.", f"Its files are at {WHERE}.")
    return found


def _path(data: Path, task: str, split: str) -> Path:
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    folder = LAYOUTS[task].folder
    path = data / folder / f"{SPLITS[split]}.tsv"
    if path.is_file():
        return path
    if not data.is_dir():
        raise DataError(f"There is no folder {data}.", f"KoBEST's files are at {WHERE}.")
    if not path.parent.is_dir():
        raise DataError(
            f"{data} has no folder {folder}, which {task} needs.",
            f"It must look like {WHERE}: {', '.join(layout.folder for layout in LAYOUTS.values())}.",
        )
    raise DataError(
        f"{path.parent} has no {path.name}, the {split} split of {task}.", f"All three splits are at {WHERE}."
    )


def _records(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields of each row; refuse a row whose columns do not match the header, with its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8.", "Save the file as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "It must be a file you may read.") from error
    lines = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    header = next(lines, [])
    if not header:
        raise DataError(f"{path} is empty.", f"The whole file is at {WHERE}.")
    if missing := [column for column in needed if column not in header]:
        raise DataError(
            f"{path} has no column {', '.join(missing)}.", f"Its columns are {', '.join(header)}; see {WHERE}."
        )
    begins = lines.line_num + 1
    for fields in _rows(path, lines):
        if fields:
            _check(path, begins, lines.line_num, header, fields)
            yield begins, dict(zip(header, fields, strict=True))
        begins = lines.line_num + 1


def _rows(path: Path, lines: Any) -> Iterator[list[str]]:
    try:
        yield from lines
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: {error}.", "A quote may stay open in or above it.") from error


def _check(path: Path, begins: int, ends: int, header: Sequence[str], fields: Sequence[str]) -> None:
    if ends > begins:
        raise DataError(
            f"{path}, line {begins}: a field begins with a quote that closes only on line {ends}, or never.",
            "Close the quote, or double it if it belongs to the text.",
        )
    if len(fields) != len(header):
        raise DataError(
            f"{path}, line {begins}: {len(fields)} columns where the header has {len(header)}.",
            "A tab is missing or stands inside a text.",
        )


def _row(path: Path, line: int, fields: dict[str, str], layout: Layout) -> Row:
    for column in layout.columns.values():
        if not fields[column]:
            raise DataError(f"{path}, line {line}: column {column} is empty.", f"The whole file is at {WHERE}.")
    try:
        label = layout.read_label(fields[layout.label].strip())
    except KeyError:
        raise DataError(
            f"{path}, line {line}: {layout.label} is {fields[layout.label]!r}.", f"It must be {layout.labels}."
        ) from None
    return {name: fields[column] for name, column in layout.columns.items()} | {"label": label}


def write(data: Path, cache: Path, tasks: Sequence[str] = tuple(LAYOUTS)) -> dict[str, dict[str, Any]]:
    """Write the rows of these tasks as JSON lines below `cache`; return what to change in each task's lm-eval config.

    Only where rows come from changes: prompts, few-shot and metrics stay lm-eval's. Field order is the Hub's, which
    lm-eval's document hashes depend on.
    """
    for task in tasks:
        for split, target in _files(cache, task).items():
            rows = read(data, task, split)
            with explained(target), replacing(target) as part:
                part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return written(cache, tasks)


def written(cache: Path, tasks: Sequence[str] = tuple(LAYOUTS)) -> dict[str, dict[str, Any]]:
    """Return what `write` returned for the rows that it left below `cache`."""
    changes = {}
    for task in tasks:
        files = {split: str(file) for split, file in _files(cache, task).items()}
        changes[task] = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    return changes


def _files(cache: Path, task: str) -> dict[str, Path]:
    return {split: cache / task / f"{split}.jsonl" for split in SPLITS}


def configs(changes: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lm-eval's own configs of these tasks with the changes made, to pass as `tasks` to lm-eval.

    Reads the five files alone; lm-eval's index of all its tasks, which takes seconds, is not needed.
    """
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    folder = Path(lm_eval.tasks.__file__).parent / "kobest"
    return [load_yaml(folder / f"{task}.yaml") | change for task, change in changes.items()]
