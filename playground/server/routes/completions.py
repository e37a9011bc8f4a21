"""/v1/completions: takes texts or token ids, answers with what follows, whole or as a stream, with `echo` if asked."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from playground.answer_text import AnswerText
from playground.presets import Sampling
from playground.protocol import RowRequest
from playground.server.answers import Answers
from playground.server.dispatch import Dispatcher
from playground.server.guards.limits import Limits
from playground.server.guards.record import Record, record_of
from playground.server.routes.answering import AnswerBuilder, envelope
from playground.server.routes.echo import Echo, at_once, read
from playground.server.wire.errors import REFUSALS, TOO_LONG, ApiError
from playground.server.wire.logprobs import Aligner, PlacedToken, join, text_logprobs
from playground.server.wire.requests import CompletionRequest
from playground.server.wire.responses import Reason, TextChoice, TextCompletion, TextLogprobs, Usage, usage
from playground.server.wire.sampling import sampling, seeded
from playground.server.wire.streams import STREAMED, EventStream, json_response, while_connected
from playground.thinking.splitter import Said

router = APIRouter(responses=REFUSALS)


@router.post("/v1/completions", response_model=TextCompletion, responses=STREAMED)
async def create(body: CompletionRequest, request: Request) -> Response:
    """Go on from a text."""
    return await while_connected(request, _answer(body, request))


async def _answer(body: CompletionRequest, request: Request) -> Response:
    body.check()
    dispatcher: Dispatcher = request.app.state.dispatcher
    drawn = sampling(body, dispatcher.limits)
    _check_size(body, dispatcher.limits)
    needs_prompt = body.limit == 0 or (body.echo and (body.logprobs is not None or not _is_text(body)))
    echoes = await read(body, drawn, dispatcher) if needs_prompt else []
    if body.limit == 0 or (at_once(body, drawn) and all(echo.next for echo in echoes)):
        return await _answer_at_once(body, echoes, dispatcher, record_of(request.scope))
    rows = _rows(body, drawn, echoes)
    answers = await dispatcher.ask(body.model, rows, body.n or 1, record_of(request.scope))
    return await TextBuilder(body, envelope("cmpl", answers.target), echoes).respond(answers)


def _is_text(body: CompletionRequest) -> bool:
    return all(isinstance(prompt, str) for prompt in body.prompts)


def _check_size(body: CompletionRequest, limits: Limits) -> None:
    """Refuse a prompt that is too long whatever its tokens are; every prompt of a request is of one kind."""
    unit, most = ("characters", limits.prompt_characters) if _is_text(body) else ("tokens", limits.prompt_tokens)
    size = max(len(prompt) for prompt in body.prompts)
    if size > most:
        raise ApiError(400, f"A prompt has {size} {unit}; this server takes {most}.", "prompt", TOO_LONG)


def _rows(body: CompletionRequest, drawn: Sampling, echoes: list[Echo]) -> list[RowRequest]:
    """Return a row for each choice of each prompt; a prompt that was read already goes as its token ids."""
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


class TextBuilder(AnswerBuilder[TextChoice, TextChoice]):
    """The objects of /v1/completions; every choice of a prompt begins with that prompt where it is echoed."""

    def __init__(self, body: CompletionRequest, envelope: dict[str, Any], echoes: list[Echo]) -> None:
        choices = body.n or 1
        texts = [""] * len(body.prompts)
        if body.echo:
            texts = [echo.text for echo in echoes] or [str(prompt) for prompt in body.prompts]
        self._echoed = [text for text in texts for _ in range(choices)]
        self._echoes = [echo for echo in echoes for _ in range(choices)]
        self._is_echo = bool(body.echo and echoes)
        self._limit = body.limit
        self._openings: dict[int, TextLogprobs | None] = {}
        self._choices = choices
        super().__init__(body, envelope, [len(text) for text in self._echoed])

    def choice(self, index: int, said: Said, tokens: list[PlacedToken], why: Reason) -> TextChoice:
        logprobs = join(self._opening_logprobs(index), self._logprobs(tokens))
        return TextChoice(index=index, text=self._echoed[index] + said.text, logprobs=logprobs, finish_reason=why)

    def completion(self, choices: list[TextChoice], used: Usage) -> TextCompletion:
        return TextCompletion(object="text_completion", **self.envelope, choices=choices, usage=used)

    def opening(self, index: int) -> TextChoice | None:
        text, logprobs = self._echoed[index], self._opening_logprobs(index)
        if not text and not (logprobs and logprobs.tokens):
            return None
        return TextChoice(index=index, text=text, logprobs=logprobs, finish_reason=None)

    def part(self, index: int, said: Said, tokens: list[PlacedToken], why: Reason | None) -> TextChoice:
        return TextChoice(index=index, text=said.text, logprobs=self._logprobs(tokens), finish_reason=why)

    def used(self, answers: Answers) -> Usage:
        return usage(answers.prompt_tokens, answers.answer_tokens)

    def chunk(self, parts: list[TextChoice], used: Usage | None = None) -> TextCompletion:
        made = TextCompletion(object="text_completion", **self.envelope, choices=parts)
        if self.with_usage:
            made.usage = used
        return made

    def respond_at_once(self, choices: list[TextChoice], used: Usage) -> Response:
        """Return the response to a request that no row is asked for."""
        if not self.is_stream:
            return json_response(self.completion(choices, used))

        async def chunks() -> AsyncIterator[TextCompletion]:
            for choice in choices:
                yield self.chunk([choice])
            if self.with_usage:
                yield self.chunk([], used)

        return EventStream(chunks())

    def ready_choices(self) -> tuple[list[TextChoice], int]:
        """Return the choices that need no row, and how many tokens they write."""
        made, written = [], 0
        for index, (echo, aligner) in enumerate(zip(self._echoes, self.aligners, strict=True)):
            if not self._limit or echo.next is None:
                made.append(self.choice(index, Said(), [], "length"))
                continue
            text = "" if echo.ends else AnswerText().feed(bytes(echo.next.raw))
            tokens = aligner.feed(text, [echo.next]) + aligner.end(stopped=False)
            made.append(self.choice(index, Said(text=text), tokens, "stop" if echo.ends else "length"))
            written += not echo.ends
        return made, written

    def _logprobs(self, tokens: list[PlacedToken]) -> TextLogprobs | None:
        return text_logprobs(tokens) if self.with_logprobs else None

    def _opening_logprobs(self, index: int) -> TextLogprobs | None:
        """Return the log-probabilities of the prompt that is echoed; made once for all choices of a prompt."""
        prompt = index // self._choices
        if prompt not in self._openings:
            self._openings[prompt] = self._read_opening(index)
        return self._openings[prompt]

    def _read_opening(self, index: int) -> TextLogprobs | None:
        if not self._is_echo:
            return None
        aligner = Aligner()
        return self._logprobs(
            aligner.feed(self._echoed[index], self._echoes[index].tokens) + aligner.end(stopped=False)
        )


async def _answer_at_once(
    body: CompletionRequest, echoes: list[Echo], dispatcher: Dispatcher, record: Record
) -> Response:
    """Answer a request that no row has to be asked for."""
    target = await dispatcher.thread(lambda: dispatcher.models.target(body.model, lambda done, what: None))
    builder = TextBuilder(body, envelope("cmpl", target), echoes)
    choices, written = builder.ready_choices()
    read_tokens = sum(len(echo.ids) for echo in echoes)
    record.tokens(target.id, read_tokens, written)
    return builder.respond_at_once(choices, usage(read_tokens, written))
