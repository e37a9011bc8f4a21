"""/v1/completions: a text or token ids in, what follows out; whole or as a stream, with the prompt echoed if asked."""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response

from playground.backends.text import AnswerText
from playground.events import Delta, Finished
from playground.presets import Sampling
from playground.protocol import RowRequest
from playground.server.answers import Answers
from playground.server.dispatch import Asker
from playground.server.guards.limits import Limits
from playground.server.guards.record import Record, record_of
from playground.server.routes.echo import Echo, at_once, read
from playground.server.wire import logprobs
from playground.server.wire.envelope import REFUSALS, STREAMED, Head, reason, usage
from playground.server.wire.errors import TOO_LONG, ApiError
from playground.server.wire.logprobs import Placed, Placing
from playground.server.wire.requests import CompletionRequest
from playground.server.wire.responses import Reason, TextChoice, TextCompletion, TextLogprobs
from playground.server.wire.sampling import sampling, seeded
from playground.server.wire.streams import EventStream, unless_gone, whole

router = APIRouter(responses=REFUSALS)


@router.post("/v1/completions", response_model=TextCompletion, responses=STREAMED)
async def create(body: CompletionRequest, request: Request) -> Response:
    """Go on from a text."""
    return await unless_gone(request, _answer(body, request))


async def _answer(body: CompletionRequest, request: Request) -> Response:
    body.check()
    asker: Asker = request.app.state.asker
    drawn = sampling(body, asker.limits)
    _check_size(body, asker.limits)
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


def _check_size(body: CompletionRequest, limits: Limits) -> None:
    """Refuse a prompt that is too long whatever its tokens are; every prompt of a request is of one kind."""
    unit, most = ("characters", limits.prompt_characters) if _is_text(body) else ("tokens", limits.prompt_tokens)
    size = max(len(prompt) for prompt in body.prompts)
    if size > most:
        raise ApiError(400, f"A prompt has {size} {unit}; this server takes {most}.", "prompt", TOO_LONG)


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


class _Opening(NamedTuple):
    """What is told before an answer, the same for every choice of a prompt: the prompt, where it is echoed."""

    text: str
    told: TextLogprobs | None = None


class _Making:
    """Puts the choices of one request together, while their rows are answered or from what is known already."""

    def __init__(self, body: CompletionRequest, head: dict[str, Any], echoes: list[Echo]) -> None:
        self.body, self.head, self.echoes = body, head, echoes
        self.choices = body.n or 1
        self.count = len(body.prompts) * self.choices
        self.openings: dict[int, _Opening] = {}
        self.placings = [Placing(before=len(self._echoed(index // self.choices))) for index in range(self.count)]

    def object(self, *choices: TextChoice) -> TextCompletion:
        """An answer, or an event of a stream."""
        return TextCompletion(object="text_completion", **self.head, choices=list(choices))

    def choice(self, index: int, text: str, told: TextLogprobs | None, why: Reason | None) -> TextChoice:
        """A choice, or more of it."""
        return TextChoice(index=index, text=text, logprobs=told, finish_reason=why)

    def told(self, placed: list[Placed]) -> TextLogprobs | None:
        """What is told of tokens, where it is asked for."""
        return logprobs.text(placed) if self.body.logprobs is not None else None

    def opening(self, index: int) -> _Opening:
        """What a choice begins with; made once for all choices of its prompt."""
        place = index // self.choices
        if place not in self.openings:
            self.openings[place] = self._opening(place)
        return self.openings[place]

    def _opening(self, place: int) -> _Opening:
        text = self._echoed(place)
        if not self.body.echo or not self.echoes:
            return _Opening(text)
        placing = Placing()
        return _Opening(text, self.told(placing.feed(text, self.echoes[place].tokens) + placing.end(stopped=False)))

    def _echoed(self, place: int) -> str:
        if not self.body.echo:
            return ""
        return self.echoes[place].text if self.echoes else str(self.body.prompts[place])

    def more(self, index: int, event: Delta | Finished) -> list[Placed]:
        """The tokens that an event lets out."""
        if isinstance(event, Delta):
            return self.placings[index].feed(event.text, event.tokens)
        return self.placings[index].end(stopped=event.reason == "stop")

    async def whole(self, answers: Answers) -> TextCompletion:
        """The answer in one piece."""
        placed: list[list[Placed]] = [[] for _ in range(self.count)]
        ended: dict[int, Finished] = {}
        async for index, event in answers:
            placed[index] += self.more(index, event)
            if isinstance(event, Finished):
                ended[index] = event
        made = self.object(*(self._joined(i, ended[i].text, placed[i], reason(ended[i])) for i in range(self.count)))
        made.usage = usage(answers.prompt_tokens, answers.answer_tokens)
        return made

    def _joined(self, index: int, text: str, placed: list[Placed], why: Reason) -> TextChoice:
        """A whole choice, with what it begins with."""
        opening = self.opening(index)
        return self.choice(index, opening.text + text, logprobs.joined(opening.told, self.told(placed)), why)

    async def chunks(self, answers: Answers) -> AsyncIterator[TextCompletion]:
        """The answer as events."""
        for index in range(self.count):
            opening = self.opening(index)
            if opening.text or (opening.told and opening.told.tokens):
                yield self._event(self.choice(index, opening.text, opening.told, None))
        async for index, event in answers:
            placed = self.more(index, event)
            if isinstance(event, Finished):
                yield self._event(self.choice(index, "", self.told(placed), reason(event)))
            elif event.text or placed:
                yield self._event(self.choice(index, event.text, self.told(placed), None))
        if self.body.with_usage:
            yield self._last(answers.prompt_tokens, answers.answer_tokens)

    def known(self) -> tuple[list[TextChoice], int]:
        """The choices that need no row, and how many tokens they write."""
        made, written = [], 0
        for index in range(self.count):
            echo, placing = self.echoes[index // self.choices], self.placings[index]
            if not self.body.limit or echo.next is None:
                made.append(self._joined(index, "", [], "length"))
                continue
            said = "" if echo.ends else AnswerText().feed(bytes(echo.next.raw))
            placed = placing.feed(said, [echo.next]) + placing.end(stopped=False)
            made.append(self._joined(index, said, placed, "stop" if echo.ends else "length"))
            written += not echo.ends
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
