"""What can be asked of a worker beside answers: tokens, scores and distributions, as plain JSON in and out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playground.backends.base import Backend, Choices

Arguments = dict[str, Any]


def encode(backend: Backend, arguments: Arguments) -> list[list[int]]:
    """Token ids of each text."""
    return [backend.encode(text, arguments["add_special"]) for text in arguments["texts"]]


def vocabulary(backend: Backend, arguments: Arguments) -> dict[str, Any]:
    """Special tokens and chat template."""
    return backend.vocabulary().model_dump()


def score(backend: Backend, arguments: Arguments) -> dict[str, Any]:
    """Log-probabilities of choices."""
    questions = [Choices.model_validate(row) for row in arguments["questions"]]
    return backend.score(questions, arguments["adapter"]).model_dump()


def logprobs(backend: Backend, arguments: Arguments) -> str:
    """The distribution after each token, float32 [tokens, vocabulary], written to a .npy file that the caller names."""
    import numpy as np

    path = Path(arguments["file"])
    np.save(path, backend.logprobs(arguments["ids"], arguments["adapter"]))
    return str(path)


CALLS: dict[str, Callable[[Backend, Arguments], Any]] = {
    "encode": encode,
    "vocabulary": vocabulary,
    "score": score,
    "logprobs": logprobs,
}
