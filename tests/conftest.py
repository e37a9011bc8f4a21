"""What the tests of all wings share: the embedded models, prepared once and kept between runs."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import psutil
import pytest

from playground.system.hardware import usable_cores

# Two test processes and the threads of their engines share the cores: a thread that spins while it waits for another
# takes the core that the other one needs. OpenMP reads these when an engine is first imported, so they stand here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
for name in ("MADANG_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):  # commands speak English, whoever runs the tests
    os.environ.pop(name, None)
os.environ["LC_ALL"] = "C.UTF-8"

LARGE = 6 << 30
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


@pytest.fixture(scope="session")
def demo_f16(demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded base as an F16 GGUF: quantized builds give other numbers by the size of a batch alone."""
    from training.export.gguf import convert

    file = tmp_path_factory.mktemp("f16") / "smollm2-F16.gguf"
    convert(demo_models / "smollm2", file, name="base")
    return file


def _keep() -> None:
    """What is left by now stays: the collector need not go through torch and all that again and again.

    Where the process has grown large, what was set aside and has become garbage since is looked for after all.
    """
    if psutil.Process().memory_info().rss > LARGE:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes takes longer beside other work: the limit is there for what hangs."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


def pytest_collection_finish() -> None:
    _keep()


@pytest.fixture(scope="module", autouse=True)
def _all_threads() -> Iterator[None]:
    """Backends and trainers in this process set torch's threads for themselves: the next file begins with all again."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(usable_cores())


@pytest.fixture(scope="module", autouse=True)
def _collector_at_rest() -> Iterator[None]:
    """Modules that a file's tests have imported are as heavy as those before them."""
    yield
    _keep()
