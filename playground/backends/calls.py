"""What can be asked of a worker beside answers: tokens, scores and distributions, as plain JSON in and out.

Each has an argument `adapter`, the folder of the variant's own, or null: it may bring a tokenizer and a template.
What a call refuses with a ContextError or another MadangError is raised at the caller as a ContextError or a
VariantError, with the same message and hint.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playground.backends.prompting import checked, prompt_of
from playground.errors import ContextError
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import Backend, Choices, R, RowRequest, Tokenizer
from playground.wording import worded

Arguments = dict[str, Any]


def encode(backend: Backend[R], arguments: Arguments) -> list[list[int]]:
    """Return the token ids of each text."""
    encode = backend.tokenizer(arguments.get("adapter")).encode
    return [encode(text, arguments["add_special"]) for text in arguments["texts"]]


def vocabulary(backend: Backend[R], arguments: Arguments) -> dict[str, Any]:
    """Return the special tokens and the chat template."""
    return backend.tokenizer(arguments.get("adapter")).vocabulary().model_dump()


def score(backend: Backend[R], arguments: Arguments) -> dict[str, Any]:
    """Return the log-probabilities of choices."""
    questions = [Choices.model_validate(row) for row in arguments["questions"]]
    return backend.score(questions, arguments.get("adapter")).model_dump()


def logprobs(backend: Backend[R], arguments: Arguments) -> str:
    """Write the distribution after each token, float32 [tokens, vocabulary], to a .npy file that the caller names."""
    import numpy as np

    path = Path(arguments["file"])
    np.save(path, backend.logprobs(arguments["ids"], arguments.get("adapter")))
    return str(path)


def prompt_logprobs(backend: Backend[R], arguments: Arguments) -> list[list[dict[str, Any]]]:
    """Return the log-probability of every token of some prompts, for `echo`, and the likeliest of each place.

    In: {"prompts": [[id, …], …], "top": n, "adapter": folder or null}, n 0 or more. Out, a list for each prompt, an
    entry for each of its tokens: {"id": 5, "raw": [bytes], "logprob": nats, "top": [{"id": 5, "raw": [bytes],
    "logprob": nats}, …]}, `top` most likely first; the first token of a prompt has "logprob": null and "top": [].
    Refused: an empty prompt, an id outside the vocabulary, a prompt longer than the context.
    """
    tokenizer = backend.tokenizer(arguments.get("adapter"))
    prompts = [checked(tokenizer, ids) for ids in arguments["prompts"]]
    longest, room = max(map(len, prompts), default=0), backend.info.context
    if longest > room:
        raise ContextError(
            worded("calls.prompt_takes_tokens", longest=longest, room=room),
        )
    rows = backend.prompt_logprobs(prompts, max(arguments["top"], 0), arguments.get("adapter"))
    return [[token.model_dump() for token in row] for row in rows]


def pieces(backend: Backend[R], arguments: Arguments) -> list[list[int]]:
    """Return the bytes of each token by itself: joined and read as UTF-8, they are the text.

    In: {"ids": [id, …]}. Out: [[byte, …], …]. A piece may be part of a character; a control token gives its name.
    Vocabularies that put a space in front of every text (Llama 2's) show that space. Refused: an id outside the
    vocabulary.
    """
    tokenizer = backend.tokenizer(arguments.get("adapter"))
    return [list(tokenizer.piece(token)) for token in _known(tokenizer, arguments)]


def ends(backend: Backend[R], arguments: Arguments) -> list[bool]:
    """Return whether each token ends an answer: there may be more of them than the one that `vocabulary` names.

    In: {"ids": [id, …]}. Out: [true, …]. Refused: an id outside the vocabulary.
    """
    tokenizer = backend.tokenizer(arguments.get("adapter"))
    return [tokenizer.is_end(token) for token in _known(tokenizer, arguments)]


def render(backend: Backend[R], arguments: Arguments) -> dict[str, Any]:
    """Return the prompt that turns become, up to where an answer begins.

    In: {"variant": its name, for errors, "messages": [{"role": …, "content": …}, …], "prompt_format": name or null}.
    Out: {"text": …, "ids": [id, …], "stops": ["…"]}. Refused: turns that the template refuses; no template at all.
    """
    request = RowRequest(
        id="render",
        variant=arguments["variant"],
        messages=tuple(Message.model_validate(row) for row in arguments["messages"]),
        prompt_format=arguments["prompt_format"],
        sampling=Sampling(),
    )
    prompt = prompt_of(backend.tokenizer(arguments.get("adapter")), request)
    return {"text": prompt.text, "ids": prompt.ids, "stops": list(prompt.stops)}


def _known(tokenizer: Tokenizer, arguments: Arguments) -> list[int]:
    """Return the ids that were given, none of them strange to the model; there may be none."""
    return checked(tokenizer, arguments["ids"]) if arguments["ids"] else []


CALLS: dict[str, Callable[[Backend[Any], Arguments], Any]] = {
    "encode": encode,
    "vocabulary": vocabulary,
    "score": score,
    "logprobs": logprobs,
    "prompt_logprobs": prompt_logprobs,
    "pieces": pieces,
    "ends": ends,
    "render": render,
}
AT_ONCE = frozenset({"encode", "vocabulary", "pieces", "ends", "render"})
"""Calls that leave the model alone: they run between two steps of the rows. The others compute, one at a time."""
