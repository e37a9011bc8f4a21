"""/v1/completions: a text or token ids in, what follows out; whole or as a stream, with the prompt echoed if asked."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from playground.backends.base import RowRequest
from playground.events import Delta, Finished
from playground.presets import Sampling
from playground.server import logprobs
from playground.server.answers import Answers
from playground.server.asking import Asker
from playground.server.echo import Echo, at_once, read
from playground.server.errors import TOO_LONG, ApiError
from playground.server.logprobs import Placed, Placing
from playground.server.record import Record, record_of
from playground.server.requests import CompletionRequest
from playground.server.responses import Reason, TextChoice, TextCompletion
from playground.server.sampled import sampling, seeded
from playground.server.streams import EventStream, unless_gone, whole
from playground.server.told import REFUSALS, STREAMED, Head, reason, usage

router = APIRouter(responses=REFUSALS)


@router.post("/v1/completions", response_model=TextCompletion, responses=STREAMED)
async def create(body: CompletionRequest, request: Request) -> Response:
    """Go on from a text."""
    return await unless_gone(request, _answer(body, request))


async def _answer(body: CompletionRequest, request: Request) -> Response:
    body.check()
    asker: Asker = request.app.state.asker
    drawn = sampling(body, asker.limits)
    _check_size(body, asker.limits.prompt_characters)
    needs_prompt = body.limit == 0 or (body.echo and (body.logprobs is not None or not _is_text(body)))
    echoes = await read(body, drawn, asker) if needs_prompt else []
    if body.limit == 0 or (at_once(body, drawn) and all(echo.next for echo in echoes)):
        return await _known_already(body, echoes, asker, record_of(request.scope))
    rows = _rows(body, drawn, echoes)
    answers = await asker.ask(body.model, rows, body.n or 1, record_of(request.scope))
    making = _Making(body, Head("cmpl", answers.target).fields(), echoes)
    if body.stream:
        return EventStream(making.chunks(answers), answers)
    try:
        return whole(await making.whole(answers))
    finally:
        answers.close()


def _is_text(body: CompletionRequest) -> bool:
    return all(isinstance(prompt, str) for prompt in body.prompts)


def _check_size(body: CompletionRequest, most: int) -> None:
    size = max(len(prompt) for prompt in body.prompts)
    if size > most:
        raise ApiError(400, f"A prompt has {size} characters; this server takes {most}.", "prompt", TOO_LONG)


def _rows(body: CompletionRequest, drawn: Sampling, echoes: list[Echo]) -> list[RowRequest]:
    """A row for each choice of each prompt; a prompt that was read already goes as its token ids."""
    prompts = [echo.ids for echo in echoes] or body.prompts
    choices = body.n or 1
    samplings = seeded(drawn, body.seed, len(prompts), choices)
    rows = []
    for prompt in prompts:
        source: dict[str, Any] = {"text": prompt} if isinstance(prompt, str) else {"ids": tuple(prompt)}
        for _ in range(choices):
            own = next(samplings)
            rows.append(RowRequest(id="", variant="", sampling=own, top_logprobs=body.logprobs, **source))
    return rows


class _Making:
    """Puts the choices of one request together, while their rows are answered or from what is known already."""

    def __init__(self, body: CompletionRequest, head: dict[str, Any], echoes: list[Echo]) -> None:
        self.body, self.head, self.echoes = body, head, echoes
        self.choices = body.n or 1
        self.count = len(body.prompts) * self.choices
        self.placings = [Placing() for _ in range(self.count)]

    def object(self, *choices: TextChoice) -> TextCompletion:
        """An answer, or an event of a stream."""
        return TextCompletion(object="text_completion", **self.head, choices=list(choices))

    def choice(self, index: int, text: str, placed: list[Placed], why: Reason | None) -> TextChoice:
        """A choice, or more of it."""
        told = logprobs.text(placed) if self.body.logprobs is not None else None
        return TextChoice(index=index, text=text, logprobs=told, finish_reason=why)

    def opening(self, index: int) -> tuple[str, list[Placed]]:
        """What is told before the answer: the prompt, where it is echoed."""
        if not self.body.echo:
            return "", []
        place = index // self.choices
        if not self.echoes:
            return str(self.body.prompts[place]), []
        echo = self.echoes[place]
        placing = self.placings[index]
        return echo.text, placing.feed(echo.text, echo.tokens) + placing.end(stopped=False)

    def more(self, index: int, event: Delta | Finished) -> list[Placed]:
        """The tokens that an event lets out."""
        if isinstance(event, Delta):
            return self.placings[index].feed(event.text, event.tokens)
        return self.placings[index].end(stopped=event.reason == "stop")

    async def whole(self, answers: Answers) -> TextCompletion:
        """The answer in one piece."""
        openings = [self.opening(index) for index in range(self.count)]
        texts = [text for text, _ in openings]
        placed = [list(tokens) for _, tokens in openings]
        reasons: dict[int, Reason] = {}
        async for index, event in answers:
            placed[index] += self.more(index, event)
            if isinstance(event, Finished):
                texts[index] += event.text
                reasons[index] = reason(event)
        made = self.object(*(self.choice(i, texts[i], placed[i], reasons[i]) for i in range(self.count)))
        made.usage = usage(answers.prompt_tokens, answers.answer_tokens)
        return made

    async def chunks(self, answers: Answers) -> AsyncIterator[TextCompletion]:
        """The answer as events."""
        for index in range(self.count):
            text, placed = self.opening(index)
            if text or placed:
                yield self._event(self.choice(index, text, placed, None))
        async for index, event in answers:
            placed = self.more(index, event)
            if isinstance(event, Finished):
                yield self._event(self.choice(index, "", placed, reason(event)))
            elif event.text or placed:
                yield self._event(self.choice(index, event.text, placed, None))
        if self.body.with_usage:
            yield self._last(answers.prompt_tokens, answers.answer_tokens)

    def known(self) -> tuple[list[TextChoice], int]:
        """The choices that need no row, and how many tokens they write."""
        made, written = [], 0
        for index in range(self.count):
            text, placed = self.opening(index)
            echo = self.echoes[index // self.choices]
            why: Reason = "length"
            if self.body.limit and echo.next is not None:
                said = "" if echo.ends else bytes(echo.next.raw).decode(errors="ignore")
                placing = self.placings[index]
                placed += placing.feed(said, [echo.next]) + placing.end(stopped=False)
                text, why, written = text + said, "stop" if echo.ends else "length", written + (not echo.ends)
            made.append(self.choice(index, text, placed, why))
        return made, written

    async def known_chunks(self, choices: list[TextChoice], prompt: int, written: int) -> AsyncIterator[TextCompletion]:
        """Those choices as events."""
        for choice in choices:
            yield self._event(choice)
        if self.body.with_usage:
            yield self._last(prompt, written)

    def _event(self, choice: TextChoice) -> TextCompletion:
        made = self.object(choice)
        if self.body.with_usage:
            made.usage = None  # told as null until the last
        return made

    def _last(self, prompt: int, written: int) -> TextCompletion:
        made = self.object()
        made.usage = usage(prompt, written)
        return made


async def _known_already(body: CompletionRequest, echoes: list[Echo], asker: Asker, record: Record) -> Response:
    """The answer to a request that no row has to be asked for."""
    target = await asker.thread(lambda: asker.known.target(body.model, lambda done, what: None))
    making = _Making(body, Head("cmpl", target).fields(), echoes)
    choices, written = making.known()
    read_tokens = sum(len(echo.ids) for echo in echoes)
    record.tokens(target.id, read_tokens, written)
    if body.stream:
        return EventStream(making.known_chunks(choices, read_tokens, written))
    made = making.object(*choices)
    made.usage = usage(read_tokens, written)
    return whole(made)
