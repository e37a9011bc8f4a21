"""What the tests of all wings share: the embedded models, prepared once and kept between runs."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from playground.budget import usable_cores

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell hands it on to what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_models() -> Path:
    """The models folder with the embedded models in it: in MADANG_TEST_DATA, or else in the user's cache."""
    from training.demo.prepare import prepare

    home = os.environ.get("MADANG_TEST_DATA") or platformdirs.user_cache_dir("madang-tests", appauthor=False)
    models_dir = Path(home) / "models"
    prepare(models_dir)
    return models_dir


@pytest.fixture(scope="module", autouse=True)
def _all_threads() -> Iterator[None]:
    """Backends and trainers in this process set torch's threads for themselves: the next file begins with all again."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(usable_cores())
