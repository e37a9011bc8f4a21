"""Rows of Parquet, a batch at a time: the file is never in memory whole."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import ConfigError
from training.data.columns import Numbered, header
from training.data.encodings import LONGEST, TOO_LONG

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 1024
MOST_BYTES, MOST_FOOTER = 4 * LONGEST, 16 << 20
INDEX = re.compile(r"__index_level_\d+__")
"""The numbers of rows, which pandas writes as a column."""


def rows(path: Path) -> Numbered:
    """Yield the rows; a file that is none, or is cut short, is a ConfigError."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    _check_footer(path)
    try:
        with ParquetFile(path, memory_map=True) as file:
            names = header(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(AT_ONCE):
                for cells in _cells(batch):
                    number += 1
                    yield number, cells if isinstance(cells, str) else _row(names, cells)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        said = str(error).splitlines()[0]
        raise ConfigError(f"{path} is not a whole Parquet file: {said}", "Copy or download it again.") from error


def _check_footer(path: Path) -> None:
    """Refuse a footer that takes seconds and ten times its size to read."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        size = int.from_bytes(file.read(4), "little")
    if MOST_FOOTER < size < path.stat().st_size:
        raise ConfigError(
            f"{path} describes its columns in {size:,} bytes: it has far too many of them, or of row groups.",
            "Write it again with the columns to train on.",
        )


def _cells(batch: "pa.RecordBatch") -> Iterator[tuple[Any, ...] | str]:
    """Yield the values of each row; of one that is too long, that it is."""
    if batch.nbytes <= MOST_BYTES:
        yield from zip(*map(_values, batch.columns), strict=True)
        return
    for place in range(batch.num_rows):
        one = batch.slice(place, 1)
        yield TOO_LONG if one.nbytes > MOST_BYTES else tuple(_values(column)[0] for column in one.columns)


def _values(column: "pa.Array") -> list[Any]:
    """Return a column's values; those of a time that Python has no date for, as text."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        import pyarrow as pa

        return list(column.cast(pa.string()).to_pylist())


def _row(names: list[str], cells: tuple[Any, ...]) -> dict[str, Any]:
    return {name: cell for name, cell in zip(names, cells, strict=True) if not INDEX.fullmatch(name)}
