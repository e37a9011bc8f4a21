"""/v1/chat/completions: turns in, an answer in the assistant's name out, whole or as a stream."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import Response

from playground.events import Delta, Finished
from playground.messages import Message, Role
from playground.protocol import RowRequest
from playground.server.answers import Answers
from playground.server.dispatch import Asker
from playground.server.guards.record import record_of
from playground.server.wire import logprobs
from playground.server.wire.envelope import REFUSALS, STREAMED, Head, reason, usage
from playground.server.wire.errors import TOO_LONG, ApiError
from playground.server.wire.logprobs import Placed, Placing
from playground.server.wire.requests import ChatRequest, ChatTurn, Part
from playground.server.wire.responses import ChatChoice, ChatChunk, ChatCompletion, ChatDelta, ChatMessage, ChunkChoice
from playground.server.wire.sampling import sampling, seeded
from playground.server.wire.streams import EventStream, unless_gone, whole

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
UNSERVED = ("tool_calls", "tool_call_id", "function_call", "audio", "refusal")
router = APIRouter(responses=REFUSALS)


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def create(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation."""
    return await unless_gone(request, _answer(body, request))


async def _answer(body: ChatRequest, request: Request) -> Response:
    body.check()
    asker: Asker = request.app.state.asker
    choices = body.n or 1
    answers = await asker.ask(body.model, _rows(body, asker), choices, record_of(request.scope))
    if body.stream:
        return EventStream(_chunks(body, answers, choices), answers)
    try:
        return whole(await _completion(body, answers, choices))
    finally:
        answers.close()


def _rows(body: ChatRequest, asker: Asker) -> list[RowRequest]:
    turns = tuple(_message(place, turn) for place, turn in enumerate(body.messages))
    size, most = sum(len(turn.content) for turn in turns), asker.limits.prompt_characters
    if size > most:
        text = f"The messages have {size} characters; this server takes {most}."
        raise ApiError(400, text, "messages", TOO_LONG)
    top = (body.top_logprobs or 0) if body.logprobs else None
    return [
        RowRequest(id="", variant="", messages=turns, sampling=own, top_logprobs=top)
        for own in seeded(sampling(body, asker.limits), body.seed, 1, body.n or 1)
    ]


def _message(place: int, turn: ChatTurn) -> Message:
    """A turn as the playground has it: a developer speaks as the system, parts of text are joined."""
    where = f"messages[{place}]"
    for name in UNSERVED:
        if getattr(turn, name):
            raise ApiError(400, f"'{name}' is not served here: text alone.", f"{where}.{name}", "unsupported_parameter")
    if turn.role not in ROLES:
        known = ", ".join(ROLES)
        text = f"Invalid value for '{where}.role': '{turn.role[:50]}'. Served here: {known}."
        raise ApiError(400, text, f"{where}.role", "invalid_value")
    return Message(role=ROLES[turn.role], content=_content(f"{where}.content", turn))


def _content(where: str, turn: ChatTurn) -> str:
    if turn.content is None and turn.role != "assistant":
        raise ApiError(400, f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    parts = [Part(type="text", text=turn.content or "")] if isinstance(turn.content, str | None) else turn.content
    for number, part in enumerate(parts):
        if part.type != "text" or part.text is None:
            text = f"Content parts of type '{part.type[:50]}' are not served here: the models read text alone."
            raise ApiError(400, text, f"{where}[{number}]", "unsupported_content")
    return "".join(part.text or "" for part in parts)


async def _completion(body: ChatRequest, answers: Answers, choices: int) -> ChatCompletion:
    ended: dict[int, Finished] = {}
    placings = [Placing() for _ in range(choices)]
    placed: list[list[Placed]] = [[] for _ in range(choices)]
    async for index, event in answers:
        if isinstance(event, Finished):
            ended[index] = event
        placed[index] += _placed(placings[index], event)
    told = [
        ChatChoice(
            index=index,
            message=ChatMessage(role="assistant", content=ended[index].text, refusal=None),
            logprobs=logprobs.chat(placed[index]) if body.logprobs else None,
            finish_reason=reason(ended[index]),
        )
        for index in range(choices)
    ]
    used = usage(answers.prompt_tokens, answers.answer_tokens)
    head = Head("chatcmpl", answers.target).fields()
    return ChatCompletion(object="chat.completion", **head, choices=told, usage=used)


async def _chunks(body: ChatRequest, answers: Answers, choices: int) -> AsyncIterator[ChatChunk]:
    head = Head("chatcmpl", answers.target).fields()

    def chunk(*told: ChunkChoice) -> ChatChunk:
        made = ChatChunk(object="chat.completion.chunk", **head, choices=list(told))
        if body.with_usage:
            made.usage = None  # told as null until the last
        return made

    for index in range(choices):
        opening = ChatDelta(role="assistant", content="")
        yield chunk(ChunkChoice(index=index, delta=opening, logprobs=None, finish_reason=None))
    placings = [Placing() for _ in range(choices)]
    async for index, event in answers:
        found = _placed(placings[index], event)
        told = logprobs.chat(found) if body.logprobs and found else None
        if isinstance(event, Delta) and (event.text or found):
            delta = ChatDelta(content=event.text)
            yield chunk(ChunkChoice(index=index, delta=delta, logprobs=told, finish_reason=None))
        elif isinstance(event, Finished):
            yield chunk(ChunkChoice(index=index, delta=ChatDelta(), logprobs=told, finish_reason=reason(event)))
    if body.with_usage:
        last = chunk()
        last.usage = usage(answers.prompt_tokens, answers.answer_tokens)
        yield last


def _placed(placing: Placing, event: Delta | Finished) -> list[Placed]:
    if isinstance(event, Delta):
        return placing.feed(event.text, event.tokens)
    return placing.end(stopped=event.reason == "stop")
