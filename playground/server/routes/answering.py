"""What chat and completions have in common: the events of rows become OpenAI's objects, whole or as a stream."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any, Generic, TypeVar
from uuid import uuid4

from fastapi.responses import Response
from pydantic import BaseModel

from playground.events import Delta, Finished
from playground.server.answers import Answers
from playground.server.served_models import Target
from playground.server.wire.logprobs import Aligner, PlacedToken
from playground.server.wire.requests import ChatRequest, CompletionRequest
from playground.server.wire.responses import Reason, Usage, finish_reason
from playground.server.wire.streams import EventStream, json_response
from playground.thinking.splitter import Said

Choice = TypeVar("Choice", bound=BaseModel)
Part = TypeVar("Part", bound=BaseModel)


def envelope(prefix: str, target: Target) -> dict[str, Any]:
    """Return the fields that a completion and all of its chunks have alike."""
    return {
        "id": f"{prefix}-{uuid4().hex}",
        "created": int(time.time()),
        "model": target.id,
        "system_fingerprint": target.fingerprint,
    }


class AnswerBuilder(ABC, Generic[Choice, Part]):
    """Builds the objects of one response. Choice: one whole answer; Part: more of one answer, in a stream."""

    def __init__(self, body: ChatRequest | CompletionRequest, envelope: dict[str, Any], offsets: Sequence[int]) -> None:
        """`offsets`: of each choice, how many characters stand before its own text."""
        self.envelope = envelope
        self.with_usage = body.with_usage
        self.with_logprobs = body.logprobs is not None and body.logprobs is not False  # a number of them, or whether
        self.is_stream = body.stream
        self.aligners = [Aligner(offset) for offset in offsets]

    @abstractmethod
    def choice(self, index: int, said: Said, tokens: list[PlacedToken], why: Reason) -> Choice:
        """Return one whole answer."""

    @abstractmethod
    def completion(self, choices: list[Choice], used: Usage) -> BaseModel:
        """Return the body of a response that is no stream."""

    @abstractmethod
    def opening(self, index: int) -> Part | None:
        """Return what a stream says of a choice before its row does."""

    @abstractmethod
    def part(self, index: int, said: Said, tokens: list[PlacedToken], why: Reason | None) -> Part:
        """Return more of a choice, of its thought or of its text; `why` it ended, in its last part."""

    @abstractmethod
    def used(self, answers: Answers) -> Usage:
        """Return the tokens that the answers took."""

    @abstractmethod
    def chunk(self, parts: list[Part], used: Usage | None = None) -> BaseModel:
        """Return one event of a stream; where usage is asked for, `used` is null until the last."""

    async def respond(self, answers: Answers) -> Response:
        """Return the response to a request whose rows have begun; they are closed at its end."""
        if self.is_stream:
            return EventStream(self._chunks(answers), answers)
        try:
            return json_response(await self._completion(answers))
        finally:
            answers.close()

    async def _completion(self, answers: Answers) -> BaseModel:
        tokens: list[list[PlacedToken]] = [[] for _ in self.aligners]
        ended: dict[int, Finished] = {}
        async for index, event in answers:
            tokens[index] += self._tokens(index, event)
            if isinstance(event, Finished):
                ended[index] = event
        choices = [
            self.choice(index, _said(ended[index]), tokens[index], finish_reason(ended[index]))
            for index in range(len(self.aligners))
        ]
        return self.completion(choices, self.used(answers))

    async def _chunks(self, answers: Answers) -> AsyncIterator[BaseModel]:
        for index in range(len(self.aligners)):
            if (opening := self.opening(index)) is not None:
                yield self.chunk([opening])
        async for index, event in answers:
            tokens = self._tokens(index, event)
            if isinstance(event, Finished):
                yield self.chunk([self.part(index, Said(), tokens, finish_reason(event))])
                continue
            if event.reasoning:
                yield self.chunk([self.part(index, Said(thought=event.reasoning), [], None)])
            if event.text or tokens:
                yield self.chunk([self.part(index, Said(text=event.text), tokens, None)])
        if self.with_usage:
            yield self.chunk([], self.used(answers))

    def _tokens(self, index: int, event: Delta | Finished) -> list[PlacedToken]:
        """Return the tokens of a choice whose place in the text is known with this event."""
        if isinstance(event, Delta):
            return self.aligners[index].feed(event.text, event.tokens)
        return self.aligners[index].end(stopped=event.reason == "stop")


def _said(finished: Finished) -> Said:
    return Said(finished.reasoning, finished.text)
