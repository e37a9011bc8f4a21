"""The tiny random models of the engines' own tests."""

from tests.playground.backends.conftest import ask, tiny, tiny_adapter

__all__ = ["ask", "tiny", "tiny_adapter"]
