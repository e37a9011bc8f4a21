"""Loads the engine that a spec names, and no other."""

from typing import Any

from playground.protocol import Backend, ModelSpec


def load(spec: ModelSpec) -> Backend[Any]:
    """Return the backend of a spec's engine, with its model loaded; imports that engine and no other."""
    if spec.engine == "transformers":
        from playground.backends.transformers import TransformersBackend

        return TransformersBackend(spec)
    if spec.engine == "llama_cpp":
        from playground.backends.llama_cpp import LlamaCppBackend

        return LlamaCppBackend(spec)
    from playground.backends.fake import FakeBackend

    return FakeBackend(spec)
