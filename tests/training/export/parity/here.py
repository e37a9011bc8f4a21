"""GGUF made by the product's own steps in this process: what a child imports takes longer than what it then does.

The steps in a process of their own, as users have them, are tests/training/export/test_gguf.py's.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from training.export import gguf


def convert(folder: Path, file: Path) -> None:
    with _in_this_process():
        gguf.convert(folder, file)


def quantize(file: Path, out: Path, level: str) -> None:
    with _in_this_process():
        gguf.quantize(file, out, level)


def _call(function: Callable[..., None], *args: object, what: str) -> None:
    function(*map(str, args))


@contextmanager
def _in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "isolated", _call)
        patch.setattr(sys, "argv", sys.argv)  # the converter is given its own
        yield
