"""Ollama's own API, where its OpenAI-compatible one would drop what was asked: samplers, raw prompts, long prompts.

Behind /v1 it knows no `top_k`, `min_p` or `repetition_penalty` and uses its own (40, 0, 1.1) without a word, puts the
model's template around completions, and cuts off the beginning of a prompt that does not fit. /api/chat and
/api/generate take all of it. Field names after Ollama's docs (docs.ollama.com/api, November 2026).
"""

from typing import Any

from playground.errors import VariantError
from playground.messages import Message
from playground.presets import Sampling
from playground.protocol import RowRequest
from playground.remote.chunks import Chunk
from playground.remote.sse import read_json
from playground.wording import worded

VERSION = "/api/version"
"""The page that tells Ollama from others."""
WHOLE_HISTORY = -1
"""`repeat_last_n`: penalties see the whole context, as in our own engines."""


def asked(request: RowRequest, text: str | None, stops: list[str], context: int | None) -> tuple[str, dict[str, Any]]:
    """Return path and body of a request but for the model's name. `text`: a prompt without a template around it.

    `context`: tokens that the catalogue's row asks for; Ollama has a default of its own.
    """
    if request.ids is not None:
        raise VariantError(worded("ollama.ollama_takes_no", variant=request.variant))
    body: dict[str, Any] = {"stream": True, "truncate": False, "shift": False}
    body["options"] = _options(request.sampling, stops) | ({"num_ctx": context} if context else {})
    if request.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if not request.opened and text is None:
        raise VariantError(worded("ollama.ollama_templates_always", variant=request.variant))
    if text is not None:
        return "/api/generate", body | {"prompt": text, "raw": True}
    return "/api/chat", body | _thinking(request) | {"messages": [_turn(message) for message in request.messages]}


def _thinking(request: RowRequest) -> dict[str, Any]:
    """Return its switch, which takes efforts as well."""
    wanted = request.thinking
    if wanted.budget is not None:
        raise VariantError(worded("ollama.ollama_takes", variant=request.variant))
    if request.template_options:
        named = ", ".join(request.template_options)
        raise VariantError(worded("ollama.ollama_templates_take", variant=request.variant, named=named))
    if wanted.effort is not None:
        return {"think": wanted.effort}
    return {} if wanted.mode == "default" else {"think": wanted.mode == "on"}


def _turn(message: Message) -> dict[str, Any]:
    said = message.model_dump(exclude_none=True)
    thought = said.pop("reasoning_content", None)
    return said | ({"thinking": thought} if thought else {})


def _options(sampling: Sampling, stops: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": WHOLE_HISTORY,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "num_predict": sampling.max_new_tokens,
    }
    options |= {} if sampling.seed is None else {"seed": sampling.seed}
    return options | ({"stop": stops} if stops else {})


def parsed(line: str) -> Chunk | None:
    """Return one line of its stream as the chunk of another server; None where it is no part of an answer."""
    try:
        found = read_json(line)
        if "error" in found:
            return Chunk(error=found["error"])
        said = found.get("message") or {"content": found["response"]}
        part = {"content": said.get("content") or None, "reasoning": said.get("thinking") or found.get("thinking")}
        held = found.get("logprobs")
        choice: dict[str, Any] = {"delta": part, "logprobs": {"content": held} if held else None}
        if not found["done"]:
            return Chunk.model_validate({"choices": [choice]})
        choice["finish_reason"] = found.get("done_reason") or "stop"
        counts = {"prompt_tokens": found.get("prompt_eval_count"), "completion_tokens": found.get("eval_count")}
        return Chunk.model_validate({"choices": [choice], "usage": counts})
    except (ValueError, KeyError, TypeError, AttributeError):  # pydantic's ValidationError among them
        return None
