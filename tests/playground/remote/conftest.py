"""A server on the loopback that a test plants."""

from collections.abc import Iterator

import pytest

from tests.planted import Planted, serving


@pytest.fixture
def planted() -> Iterator[Planted]:
    with serving() as planted:
        yield planted
