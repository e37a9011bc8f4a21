"""Fixtures for the tests of the set-up script."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.setup.checkout import SCRIPTS, Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return make_checkout(tmp_path)


@pytest.fixture
def machine() -> ModuleType:
    spec = importlib.util.spec_from_file_location("machine", SCRIPTS / "machine.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
