"""/v1/models with the variants of the catalogue, /health, and llama.cpp's /tokenize and /detokenize."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from playground.errors import SetupError
from playground.server.dispatch import Dispatcher, detokenized
from playground.server.served_models import Target
from playground.server.wire.errors import REFUSALS, TOO_LONG, ApiError, ErrorBody, Problem
from playground.server.wire.requests import DetokenizeRequest, TokenizeRequest
from playground.server.wire.responses import Content, Health, ModelCard, ModelList, Tokens
from playground.server.wire.streams import while_connected
from playground.system.atomic import check_writable
from playground.workers.pool import Hold

OWNER = "madang"
router = APIRouter(responses=REFUSALS)
open_router = APIRouter()


SICK = "A model is being loaded, or the disk is full or closed to it"


@open_router.get("/health", responses={503: {"model": ErrorBody, "description": SICK}})
async def health(request: Request) -> Response:
    """Whether models can be asked: 503 while one loads for the first time, and without room to write. Needs no key."""
    dispatcher: Dispatcher = request.app.state.dispatcher
    problem = Problem(message="Loading model", type="server_error", code="loading")
    if dispatcher.loading.ready:
        try:
            await dispatcher.thread(partial(check_writable, dispatcher.data))
            return JSONResponse(Health().model_dump())
        except SetupError as error:
            problem = Problem(message=error.message, type="server_error", code="disk")
    return JSONResponse(ErrorBody(error=problem).model_dump(), 503, {"Retry-After": "1"})


@router.get("/v1/models")
async def models(request: Request) -> ModelList:
    """Every model that can be asked."""
    dispatcher: Dispatcher = request.app.state.dispatcher

    def read() -> ModelList:
        created = dispatcher.models.created()
        cards = [ModelCard(id=name, created=created, owned_by=OWNER) for name in dispatcher.models.names().ids]
        return ModelList(data=cards)

    return await dispatcher.thread(read)


@router.get("/v1/models/{model:path}")
async def model(model: str, request: Request) -> ModelCard:
    """One model."""
    dispatcher: Dispatcher = request.app.state.dispatcher

    def read() -> ModelCard:
        found, _ = dispatcher.models.names().find(model)
        return ModelCard(id=found, created=dispatcher.models.created(), owned_by=OWNER)

    return await dispatcher.thread(read)


@router.post("/tokenize", response_model=Tokens)
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Token ids of a text, control tokens parsed; with BOS only where `add_special` asks for it."""
    dispatcher: Dispatcher = request.app.state.dispatcher
    _check("content", body.content, "characters", dispatcher.limits.prompt_characters)

    def encode(target: Target, hold: Hold) -> Response:
        [ids] = hold.call("encode", texts=[body.content], add_special=None if body.add_special else False)
        if not body.with_pieces:  # either is written here, on the thread: it may be long
            return JSONResponse({"tokens": ids})
        raws = hold.call("pieces", ids=ids)
        told = [{"id": token, "piece": _piece(raw)} for token, raw in zip(ids, raws, strict=True)]
        return JSONResponse({"tokens": told})

    return await while_connected(request, dispatcher.with_worker(body.model, encode))


@router.post("/detokenize", response_model=Content)
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """The text that token ids spell, control tokens by name."""
    dispatcher: Dispatcher = request.app.state.dispatcher
    _check("tokens", body.tokens, "tokens", dispatcher.limits.prompt_tokens)

    def spell(target: Target, hold: Hold) -> Response:
        return JSONResponse({"content": detokenized(hold, body.tokens)})

    return await while_connected(request, dispatcher.with_worker(body.model, spell))


def _check(name: str, given: Sequence[object], unit: str, most: int) -> None:
    """Refuse what no model here would take as a prompt."""
    if len(given) > most:
        text = f"'{name}' has {len(given)} {unit}; this server takes {most}."
        raise ApiError(400, text, name, TOO_LONG)


def _piece(raw: list[int]) -> str | list[int]:
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        return raw
