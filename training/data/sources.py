"""Where training rows come from: a file, a folder of files, or a data set on the Hub. Not what the rows mean.

A row that cannot be read does not end the reading: it becomes a finding that names its line.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from playground.catalogue.variants import HUB_ID
from playground.errors import ConfigError, HubError, refused
from playground.system.paths import as_stored
from training.data import files
from training.data.columns import composed_row
from training.data.examples import Row, Table
from training.data.findings import Finding

PAPERS = {".md", ".rst", ".yaml", ".yml", ".py", ".toml", ".lock", ""}
"""What may lie beside data files: readmes, licences, scripts."""
SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
SPLITS |= {"dev": "validation", "eval": "validation", "test": "test", "testing": "test"}
"""Words in file names -> the split they mean, as the Hub reads them."""


def load(repo: str, split: str, limit: int | None) -> Sequence[Row]:
    """Return the rows of one split; with `limit` only the first ones are fetched."""
    from datasets import load_dataset

    with _hub_errors(repo, split):
        if limit is not None:
            return list(islice(load_dataset(repo, split=split, streaming=True), limit))
        return list(load_dataset(repo, split=split))


Fetch = Callable[[str, str, int | None], Sequence[Row]]
"""Repository, split and the most rows wanted -> rows. The seam at which tests put a fake."""


def read(source: str, split: str = "train", limit: int | None = None, fetch: Fetch = load) -> Table:
    """Read the rows of a file, of a folder's files in the order of their names, or of a Hub data set (owner/name).

    `split` chooses a Hub data set's rows, and a folder's files where their names say train, validation or test.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"A limit of {limit} leaves no row to read.", "Give 1 or more, or leave it out.")
    path = as_stored(Path(source).expanduser())
    if path.is_dir():
        table = _folder(path, split, limit)
    elif path.exists():
        table = files.read(path, split, limit)
    elif _on_the_hub(source, path):
        rows = [composed_row(row) for row in fetch(source, split, limit)][:limit]
        table = Table(rows, list(range(1, len(rows) + 1)), source)
    else:
        raise _missing(source, path)
    if not table.rows and not table.faults:
        raise ConfigError(f"{table.name} holds no rows.", "Check that it is the right file, and that it was written.")
    return table


def _on_the_hub(source: str, path: Path) -> bool:
    """Return whether it names a data set on the Hub rather than a path that was misspelt."""
    return bool(HUB_ID.fullmatch(source)) and not files.kind(path) and not _near(path)


def _near(path: Path) -> list[str]:
    folder = path.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return [str(folder / name) for name in get_close_matches(path.name, names, n=3, cutoff=0.6)]


def _missing(source: str, path: Path) -> ConfigError:
    near = _near(path)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"It must be a file ({', '.join(files.KINDS)}), a folder"
    return ConfigError(f"There is no file or folder {source}.", hint if near else f"{hint} or a Hub id (owner/name).")


def _folder(folder: Path, split: str, limit: int | None) -> Table:
    """Read all files of a folder as one table, whose rows are counted through."""
    rows: list[Row] = []
    faults: list[Finding] = []
    read_so_far = 0
    for path in _of_split(folder, _data_files(folder), split):
        if limit is not None and len(rows) >= limit:
            break
        part = files.read(path, split, None if limit is None else limit - len(rows))
        moved = {number: read_so_far + place for place, number in enumerate(_all_numbers(part), start=1)}
        rows += part.rows
        faults += [
            replace(fault, rows=tuple(moved[row] for row in fault.rows), message=f"{path.name}: {_local(fault)}")
            for fault in part.faults
        ]
        read_so_far += len(moved)
    lost = {number for fault in faults for number in fault.rows}
    return Table(rows, [n for n in range(1, read_so_far + 1) if n not in lost], str(folder), faults)


def _all_numbers(table: Table) -> list[int]:
    return sorted({*table.numbers, *(row for fault in table.faults for row in fault.rows)})


def _local(fault: Finding) -> str:
    """Return a fault's message with the line numbers of its own file: its rows are counted through the folder."""
    lines = f" (lines {', '.join(map(str, fault.rows[:3]))}{' …' if fault.count > 3 else ''})"
    return fault.message + (lines if fault.rows else "")


def _data_files(folder: Path) -> list[Path]:
    """Return the folder's data files, all of one kind."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    found = [path for path in there if files.kind(path)]
    others = [path.name for path in there if not files.kind(path) and path.suffix.lower() not in PAPERS]
    kinds = sorted({files.kind(path) for path in found})
    if others:
        raise ConfigError(
            f"{folder} holds files that are no data: {', '.join(others[:3])}{' …' if len(others) > 3 else ''}.",
            f"Move them away, or name one file. Read are {', '.join(files.KINDS)}.",
        )
    if len(kinds) > 1:
        raise ConfigError(
            f"{folder} holds files of several kinds: {', '.join(kinds)}.", "Name one file, or sort them into folders."
        )
    if not found:
        raise ConfigError(f"{folder} holds no data files.", f"Read are {', '.join(files.KINDS)}.")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _of_split(folder: Path, found: list[Path], split: str) -> list[Path]:
    """Return the files of one split, where any file's name says one; a name that says none is training data."""
    said = {path: _split_of(path.relative_to(folder)) for path in found}
    if not any(said.values()):
        return found
    wanted = SPLITS.get(split, split)
    chosen = [path for path, name in said.items() if (name or "train") == wanted]
    if not chosen:
        there = ", ".join(sorted({name or "train" for name in said.values()}))
        raise ConfigError(f"{folder} has no files of the split {split!r}.", f"Its files are of: {there}.")
    return chosen


def _split_of(path: Path) -> str | None:
    words = "/".join([*path.parts[:-1], path.name.split(".")[0]]).lower()
    for mark in "/_- ":
        words = words.replace(mark, " ")
    return next((SPLITS[word] for word in words.split() if word in SPLITS), None)


@contextmanager
def _hub_errors(repo: str, split: str) -> Iterator[None]:
    """Turn the errors of `datasets` into sentences with a remedy."""
    import httpx
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except DatasetNotFoundError as error:
        raise _not_found(repo, str(error)) from error
    except ValueError as error:  # a split or a configuration that is not there
        said = str(error).splitlines()[0]
        raise HubError(f"The split {split!r} of {repo} cannot be read: {said}", "Name another with --split.") from error
    except (DatasetsError, RuntimeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HubError(f"{repo} cannot be read as a data set: {said}", "Download its files and name one.") from error
    except (httpx.HTTPError, HfHubHTTPError, ConnectionError, OSError) as error:
        if told := refused(error):
            raise told from error
        raise HubError(
            f"The Hub cannot be reached for {repo} ({type(error).__name__}).",
            "Check the network, or name a file on this machine: those work without it.",
        ) from error


def _not_found(repo: str, said: str) -> HubError:
    if "gated" in said:
        return HubError(
            f"{repo} is gated: its authors ask you to accept a licence first.",
            f"Accept it at https://huggingface.co/datasets/{repo}, then run `hf auth login` or set HF_TOKEN.",
        )
    return HubError(
        f"The Hub has no data set {repo!r} within reach: it is misspelt, private, or this machine is offline.",
        "Check the spelling and the network; for a private one run `hf auth login` or set HF_TOKEN.",
    )
