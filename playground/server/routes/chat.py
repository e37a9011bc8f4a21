"""/v1/chat/completions: takes turns, answers with the assistant's next one, whole or as a stream."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response

from playground.messages import Message, Role
from playground.protocol import RowRequest
from playground.server.answers import Answers
from playground.server.dispatch import Dispatcher
from playground.server.guards.record import record_of
from playground.server.routes.answering import AnswerBuilder, envelope
from playground.server.wire.errors import REFUSALS, TOO_LONG, ApiError
from playground.server.wire.logprobs import PlacedToken, chat_logprobs
from playground.server.wire.requests import ChatRequest, ChatTurn
from playground.server.wire.responses import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatMessage,
    ChunkChoice,
    Reason,
    Usage,
    usage,
)
from playground.server.wire.sampling import sampling, seeded
from playground.server.wire.streams import STREAMED, while_connected
from playground.thinking.splitter import Said

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
UNSERVED = ("tool_calls", "tool_call_id", "function_call", "audio", "refusal")
router = APIRouter(responses=REFUSALS)


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def create(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation."""
    return await while_connected(request, _answer(body, request))


async def _answer(body: ChatRequest, request: Request) -> Response:
    body.check()
    dispatcher: Dispatcher = request.app.state.dispatcher
    rows = await asyncio.to_thread(_rows, body, dispatcher)  # of turns by the ten thousand it takes a second
    answers = await dispatcher.ask(body.model, rows, body.n or 1, record_of(request.scope))
    return await _ChatBuilder(body, envelope("chatcmpl", answers.target), [0] * (body.n or 1)).respond(answers)


def _rows(body: ChatRequest, dispatcher: Dispatcher) -> list[RowRequest]:
    if len(body.messages) > (most_turns := dispatcher.limits.prompt_tokens):
        text = f"There are {len(body.messages)} messages; this server takes prompts of {most_turns} tokens."
        raise ApiError(400, text, "messages", TOO_LONG)
    turns = tuple(_message(place, turn) for place, turn in enumerate(body.messages))
    size, most = (
        sum(len(turn.content) + len(turn.reasoning_content or "") for turn in turns),
        dispatcher.limits.prompt_characters,
    )
    if size > most:
        text = f"The messages have {size} characters; this server takes {most}."
        raise ApiError(400, text, "messages", TOO_LONG)
    asked = RowRequest(
        variant="",
        messages=turns,
        sampling=sampling(body, dispatcher.limits),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        thinking=body.thinking,
        template_options=body.chat_template_kwargs or {},
        parse_special=bool(body.parse_special),
        continues=bool(body.continue_final_message),
        opened=not body.continue_final_message and body.add_generation_prompt is not False,
    )
    return [asked.model_copy(update={"sampling": own}) for own in seeded(asked.sampling, body.seed, 1, body.n or 1)]


def _message(place: int, turn: ChatTurn) -> Message:
    """Return a turn as the playground has it: a developer speaks as the system, parts of text are joined."""
    where = f"messages[{place}]"
    for name in UNSERVED:
        if getattr(turn, name):
            raise ApiError(400, f"'{name}' is not served here: text alone.", f"{where}.{name}", "unsupported_parameter")
    if turn.role not in ROLES:
        known = ", ".join(ROLES)
        text = f"Invalid value for '{where}.role': '{turn.role[:50]}'. Served here: {known}."
        raise ApiError(400, text, f"{where}.role", "invalid_value")
    thought = (turn.reasoning_content or turn.reasoning or None) if turn.role == "assistant" else None
    content = _content(f"{where}.content", turn)
    return Message(role=ROLES[turn.role], content=content, reasoning_content=thought)


def _content(where: str, turn: ChatTurn) -> str:
    if turn.content is None and turn.role != "assistant":
        raise ApiError(400, f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if not isinstance(turn.content, list):
        return turn.content or ""
    for number, part in enumerate(turn.content):
        if part.type != "text" or part.text is None:
            text = f"Content parts of type '{part.type[:50]}' are not served here: the models read text alone."
            raise ApiError(400, text, f"{where}[{number}]", "unsupported_content")
    return "".join(part.text or "" for part in turn.content)


class _ChatBuilder(AnswerBuilder[ChatChoice, ChunkChoice]):
    """The objects of /v1/chat/completions."""

    def choice(self, index: int, said: Said, tokens: list[PlacedToken], why: Reason) -> ChatChoice:
        message = ChatMessage(role="assistant", content=said.text, refusal=None)
        if said.thought:
            message.reasoning_content = said.thought
        told = chat_logprobs(tokens) if self.with_logprobs else None
        return ChatChoice(index=index, message=message, logprobs=told, finish_reason=why)

    def completion(self, choices: list[ChatChoice], used: Usage) -> ChatCompletion:
        return ChatCompletion(object="chat.completion", **self.envelope, choices=choices, usage=used)

    def opening(self, index: int) -> ChunkChoice:
        delta = ChatDelta(role="assistant", content="")
        return ChunkChoice(index=index, delta=delta, logprobs=None, finish_reason=None)

    def part(self, index: int, said: Said, tokens: list[PlacedToken], why: Reason | None) -> ChunkChoice:
        delta = ChatDelta(reasoning_content=said.thought) if said.thought else ChatDelta(content=said.text)
        delta = delta if why is None else ChatDelta()
        told = chat_logprobs(tokens) if self.with_logprobs and tokens else None
        return ChunkChoice(index=index, delta=delta, logprobs=told, finish_reason=why)

    def used(self, answers: Answers) -> Usage:
        return usage(answers.prompt_tokens, answers.answer_tokens, answers.thought_tokens)

    def chunk(self, parts: list[ChunkChoice], used: Usage | None = None) -> ChatChunk:
        made = ChatChunk(object="chat.completion.chunk", **self.envelope, choices=parts)
        if self.with_usage:
            made.usage = used
        return made
