"""Echoed prompts: `echo` puts the prompt before its answer, with the prompt's log-probabilities if asked.

lm-eval scores choices this way: prompt and choice together are the prompt, and one token more is thrown away. Where
that token is greedy it is read off the prompt's own pass, which saves reading the prompt a second time.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from playground.presets import Sampling
from playground.protocol import PromptToken
from playground.server.dispatch import Dispatcher, detokenized
from playground.server.served_models import Target
from playground.server.wire.errors import TOO_LONG, ApiError
from playground.server.wire.requests import CompletionRequest, Ids
from playground.workers.pool import Hold

PORTION = 512
"""Tokens of prompts in one call, where the prompts share no beginning."""
MAX_LOGPROBS = 1_000_000
"""Log-probabilities of echoed prompts in one answer at most: tens of megabytes, made while others wait."""


@dataclass
class Echo:
    """A prompt as it was read. `next`: the likeliest token after it, where that is the whole answer."""

    ids: Ids
    text: str
    tokens: list[PromptToken] = field(default_factory=list)
    next: PromptToken | None = None
    ends: bool = False
    """Whether that token ends the answer, and so is no text."""


async def read(body: CompletionRequest, sampling: Sampling, dispatcher: Dispatcher) -> list[Echo]:
    """Return every prompt as the model reads it, with what `echo` and `logprobs` ask for."""

    def encode(target: Target, hold: Hold) -> list[Echo]:
        echoes = _encoded(body.prompts, hold)
        _check(echoes, hold, dispatcher.limits.prompt_tokens)
        return echoes

    echoes = await dispatcher.with_worker(body.model, encode)
    if body.echo and body.logprobs is not None:
        _check_count(sum(len(echo.ids) for echo in echoes), body.n or 1, body.logprobs)
        for part in portions(echoes):  # between two portions others are answered, and a hang-up is noticed
            await dispatcher.with_worker(body.model, partial(_score, part, body.logprobs, at_once(body, sampling)))
    return echoes


def portions(echoes: Sequence[Echo]) -> list[list[Echo]]:
    """Return prompts in portions, each read in one call: few tokens, as others wait, but shared beginnings once.

    A beginning that is shared does not count, and is read again only where as many tokens beyond it have been read.
    """
    parts: list[list[Echo]] = []
    size = 0
    for echo in echoes:
        shared = _shared(parts[-1][-1].ids, echo.ids) if parts else 0
        own = len(echo.ids) - shared
        if not parts or size - shared + own > max(PORTION, shared):
            parts.append([])
            size, own = 0, len(echo.ids)
        parts[-1].append(echo)
        size += own
    return parts


def _shared(one: Ids, other: Ids) -> int:
    """Return how many tokens two prompts begin with alike; 0 where those are less than half of the longer one."""
    half, shorter = max(len(one), len(other)) // 2, min(len(one), len(other))
    if one[:half] != other[:half]:
        return 0
    return bisect_left(
        range(shorter), True, lo=half, key=lambda place: one[half : place + 1] != other[half : place + 1]
    )


def at_once(body: CompletionRequest, sampling: Sampling) -> bool:
    """Return whether the answer is the one likeliest token, which the prompt's own pass gives."""
    plain = sampling.greedy and sampling.repetition_penalty == 1.0 and not sampling.stop
    return bool(body.echo and body.logprobs is not None and body.limit == 1 and plain)


def _encoded(prompts: Sequence[str | Ids], hold: Hold) -> list[Echo]:
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    encoded = iter(hold.call("encode", texts=texts, add_special=None) if texts else [])
    echoes = []
    for prompt in prompts:
        if isinstance(prompt, str):
            echoes.append(Echo(next(encoded), prompt))
        else:
            echoes.append(Echo(prompt, detokenized(hold, prompt)))
    return echoes


def _check(echoes: Sequence[Echo], hold: Hold, most: int) -> None:
    """Refuse prompts that are empty or that neither the model nor this server takes."""
    room = min(hold.info.context, most)
    longest = max(len(echo.ids) for echo in echoes)
    if longest > room:
        raise ApiError(400, f"A prompt takes {longest} tokens; {room} are taken here.", "prompt", TOO_LONG)
    if not all(echo.ids for echo in echoes):
        raise ApiError(400, "A prompt is empty: send at least one token.", "prompt", "invalid_prompt")


def _check_count(tokens: int, choices: int, top: int) -> None:
    """Refuse an echo with more log-probabilities than one answer may have."""
    told = tokens * choices * (1 + top)
    if told > MAX_LOGPROBS:
        text = (
            f"{tokens} prompt tokens, {1 + top} log-probabilities each, echoed in each of {choices} answers make {told}"
        )
        remedy = "Lower 'n' or 'logprobs', or send fewer or shorter prompts."
        raise ApiError(400, f"{text} of them; {MAX_LOGPROBS} are told at once. {remedy}", "n", "invalid_value")


def _score(echoes: Sequence[Echo], top: int, one_more: bool, target: Target, hold: Hold) -> None:
    """Read the prompts' log-probabilities; with `one_more`, also what the model would say after each."""
    context = hold.info.context
    one_more = one_more and all(len(echo.ids) < context for echo in echoes)
    prompts = [[*echo.ids, echo.ids[0]] if one_more else echo.ids for echo in echoes]
    wanted = max(top, 1) if one_more else top
    rows = hold.call("prompt_logprobs", prompts=prompts, top=wanted)
    for echo, row in zip(echoes, rows, strict=True):
        echo.tokens = [_cut(PromptToken.model_validate(token), top) for token in row]
        if one_more:
            best = PromptToken.model_validate(row[-1]).top[0]
            top_after = echo.tokens.pop().top
            echo.next = PromptToken(id=best.id, raw=best.raw, logprob=best.logprob, top=top_after)
    after = {echo.next.id for echo in echoes if echo.next is not None}
    ends = dict(zip(after, hold.call("ends", ids=list(after)), strict=True)) if after else {}
    for echo in echoes:
        echo.ends = echo.next is not None and ends[echo.next.id]


def _cut(token: PromptToken, top: int) -> PromptToken:
    return token if len(token.top) <= top else token.model_copy(update={"top": token.top[:top]})
