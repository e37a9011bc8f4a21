"""Asks an OpenAI-compatible server: makes a request of a row, and events of its stream.

A chat goes to /chat/completions as messages, the server's own template around them; a raw text, token ids, or turns in
a named prompt format go to /completions. Ollama is asked by its own API instead.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from playground.errors import ContextError, MadangError, VariantError, WorkerError
from playground.messages import Conversation
from playground.prompts import continued, prompt_format, render
from playground.protocol import DEFAULT_CONTEXT, ModelInfo, ModelSpec, RowRequest
from playground.remote import dialect, ollama
from playground.remote.answer import Answer, Silence
from playground.remote.chunks import Chunk, parsed
from playground.remote.dialect import Dialect
from playground.remote.http import PATIENCE, PAUSES_S, Line, Refused, words
from playground.wording import worded

BYTES_BESIDE = 2**20
BYTES_A_TOKEN = 2**11
BYTES_A_TOP = 2**7
"""A stream may hold so many bytes for each token asked for, and for each of its likeliest neighbours."""
LETTERS_BESIDE = 2**12
LETTERS_A_TOKEN = 2**7
"""No vocabulary's tokens are longer than this on average."""
EMPTY = 1000
"""So many events in a row may say nothing, beside one for each token that a model may think unseen."""
OF_THE_REQUEST = (400, 413, 422)
"""Refusals that another request may not get; all others are the server's own trouble, or its owner's."""
CONTEXT_FIELDS = ("max_model_len", "n_ctx", "context_length", "context_window", "n_ctx_train")
TOO_LONG = ("context_length_exceeded", "exceed_context_size", "context length", "context size", "context window")
NEUTRAL_WORDS = {
    "seed": "openai.leave_seed",
    "stop": "openai.leave_stop",
    "reasoning_effort": "openai.leave_thinking",
    "chat_template_kwargs": "openai.leave_thinking",
    "thinking_budget": "openai.leave_budget",
}
NEWER = "max_completion_tokens"
UNKNOWN = ("unsupported", "not supported", "instead", "unknown", "unrecognized", "not permitted")
"""Words of a refusal that mean the field, not its value."""
GIVEN_UP = ("abort", "aborted", "error", "cancelled")
"""Reasons for which an answer ended that mean it is not whole."""
KIND_S = 2.0
"""How long a server may take to say that it is Ollama; others may let such a question hang."""


class Server:
    """One variant's server. `greet` it first; the rest may then run at once, all on one event loop."""

    def __init__(self, spec: ModelSpec, patient: bool = True) -> None:
        assert spec.remote is not None
        self.spec = spec
        self.line = Line(spec.name, spec.remote, PAUSES_S if patient else ())
        self.model = spec.remote.model or ""
        self.dialect: Dialect = dialect.PLAIN
        self.info = self._info({})
        self.eos = ""
        self.is_ollama = False
        self._learned: set[str] = set()
        self._left_out: set[str] = set()

    @property
    def named(self) -> dict[str, Any]:
        """The fields of every body: the model's name on the server, where it is known."""
        return {"model": self.model} if self.model else {}

    async def greet(self) -> ModelInfo:
        """Ask the server for the model's name and context, and find out its dialect."""
        assert self.spec.remote is not None
        try:
            listed = await self.line.get("/models")
        except Refused as refusal:
            known = self.spec.remote.model and self.line.has_path  # without one, the /v1 was forgotten
            if refusal.status not in (404, 405, 501) or not known:
                raise
            listed = {}
        rows = _listed(listed.get("data") if isinstance(listed, dict) else None)
        rows = [row for row in rows if isinstance(row, dict)]
        row = self._row(rows)
        self.dialect = dialect.of(str(row.get("owned_by", "")))
        self.info = self._info(row)
        self.is_ollama = self.dialect is dialect.PLAIN and await self._says_ollama()
        return self.info

    async def _says_ollama(self) -> bool:
        """Return whether it has Ollama's own API beside /v1; asked once, and without patience."""
        try:
            async with asyncio.timeout(KIND_S):
                found = await self.line.get(ollama.VERSION, root=True)
        except (MadangError, TimeoutError):
            return False
        return isinstance(found, dict) and isinstance(found.get("version"), str)

    def _row(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the entry of this variant's model; the only one where it names none."""
        assert self.spec.remote is not None
        wanted = self.spec.remote.model
        if wanted:
            known = [row for row in rows if wanted == row.get("id") or wanted in _listed(row.get("aliases"))]
            return known[0] if known else {}  # some serve what they do not list: let them say
        names = [self.line.clean(str(row.get("id", ""))) for row in rows]
        if len(names) == 1 and names[0] != rows[0].get("id"):
            raise self.line.broken(worded("openai.unshown_name", host=self.line.host, names=names[0]))
        if len(names) != 1:
            many = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            what = (
                worded("openai.serves_many", names_count=len(names), many=many)
                if names
                else worded("openai.lists_none")
            )
            raise VariantError(worded("openai.told", name=self.spec.name, host=self.line.host, what=what))
        self.model = names[0]
        return rows[0]

    def _info(self, row: dict[str, Any]) -> ModelInfo:
        facts = row | (row["meta"] if isinstance(row.get("meta"), dict) else {})
        told = [size for size in map(_size, map(facts.get, CONTEXT_FIELDS)) if size]
        contexts = [size for size in (self.spec.context, *told[:1]) if size]
        context = min(contexts, default=DEFAULT_CONTEXT)
        return ModelInfo(
            dtype=self.line.clean(str(facts.get("ftype", "")))[:40],
            device=self.line.host,
            context=context,
            trained_context=context,
            vocabulary=_size(facts.get("n_vocab")),
            memory_bytes=0,
        )

    async def answer(self, answer: Answer) -> None:
        """Have one row answered; raises MadangError, after which `answer` holds what had come by then."""
        while True:
            path, body, prompt = self.asked(answer.request)
            try:
                most = _limit(answer.request)
                async with self.line.stream(path, body, most, root=self.is_ollama) as batches:
                    answer.start(prompt)
                    await self._hear(answer, batches)
                return
            except Refused as refusal:
                self._again(answer, path, body, refusal)

    def asked(self, request: RowRequest) -> tuple[str, dict[str, Any], str]:
        """Return path and body of a request, and the prompt for people to see: the text, or the messages as sent."""
        stops = [stop for stop in request.sampling.stop if stop]
        text = request.text
        if text is None and request.ids is None and request.prompt_format is not None:
            chosen = prompt_format(request.prompt_format)
            tokens = {"eos_token": self.eos}
            goes_on = continued(chosen, request.messages, tokens).text if request.continues else None
            text = goes_on or render(chosen, request.messages, tokens, opened=request.opened)
            stops += [stop for stop in chosen.stop if stop not in stops]
        make = self._asked_of_ollama if self.is_ollama else self._asked
        path, body = make(request, text, stops)
        shown = text if text is not None else str(body.get("prompt", ""))
        if "messages" in body:
            shown = json.dumps(body["messages"], ensure_ascii=False, indent=2)
        return path, self.named | body, shown

    def _asked_of_ollama(self, request: RowRequest, text: str | None, stops: list[str]) -> tuple[str, dict[str, Any]]:
        return ollama.asked(request, text, stops, self.spec.context)

    def _asked(self, request: RowRequest, text: str | None, stops: list[str]) -> tuple[str, dict[str, Any]]:
        is_chat = text is None and request.ids is None
        body: dict[str, Any] = {"stream": True}
        body |= dialect.fields(self.dialect, request.sampling, self.info.context)
        idle = [name for name in self._left_out if dialect.is_idle(self.dialect, name, body.get(name))]
        body = {name: value for name, value in body.items() if name not in idle}
        if is_chat and NEWER in self._learned:
            body[NEWER] = body.pop("max_tokens")
        if "stream_options" not in self._learned:
            body["stream_options"] = {"include_usage": True}
        if stops:
            body["stop"] = stops
        top = request.top_logprobs
        if is_chat:
            body["messages"] = dialect.turns(self.dialect, request)
            body |= dialect.thinking(self.dialect, request) | dialect.ending(self.dialect, request)
            return "/chat/completions", body | ({} if top is None else {"logprobs": True, "top_logprobs": top})
        body["prompt"] = text if text is not None else list(request.ids or ())
        return "/completions", body | ({} if top is None else {"logprobs": top})

    async def _hear(self, answer: Answer, batches: AsyncIterator[list[str]]) -> None:
        """Read a stream to its end; one that ends before its answer does broke off.

        Once the answer has ended only numbers may follow: a server that breaks off or goes silent then has said it all.
        """
        done, silence = False, Silence(PATIENCE * self.line.address.timeout_s, EMPTY + _most(answer))
        while not done:
            try:
                async with asyncio.timeout_at(silence.until(answer)):
                    batch = await anext(batches, None)
            except (TimeoutError, MadangError) as error:
                if answer.reason is None:
                    raise (self.line.endless() if isinstance(error, TimeoutError) else error) from error
                break
            if batch is None:
                break
            done = self._take_all(answer, batch, silence)
            answer.show()
        self._end(answer, done)

    def _take_all(self, answer: Answer, batch: list[str], silence: Silence) -> bool:
        """Take events that came together; return whether the stream has said that it is done."""
        read: Callable[[str], Chunk | None] = ollama.parsed if self.is_ollama else parsed
        for data in batch:
            if data.strip() == "[DONE]":
                return True
            before = answer.said
            self._take(answer, read(data))
            if silence.lasts(answer, before):
                raise self.line.broken(worded("openai.silent_events", host=self.line.host, most=silence.most))
            if answer.letters > LETTERS_BESIDE + LETTERS_A_TOKEN * _most(answer):
                raise self.line.broken(worded("openai.more_text", host=self.line.host, answer=_most(answer)))
        return False

    def _end(self, answer: Answer, done: bool) -> None:
        who = f"{answer.request.variant}: {self.line.host}"
        if answer.reason is None and not (done and answer.heard):
            raise WorkerError(worded("openai.ended_within" if answer.heard else "openai.ended_without", who=who))
        if answer.reason in GIVEN_UP:
            raise WorkerError(worded("openai.gave_up_middle", who=who, reason=answer.reason))
        if answer.reason == "content_filter":
            raise VariantError(worded("openai.held_answer_back", who=who))
        answer.finish("length" if answer.reason == "length" else "stop")

    def _take(self, answer: Answer, chunk: Chunk | None) -> None:
        if chunk is None:
            raise self.line.broken(worded("openai.no_part", host=self.line.host))
        if chunk.error is not None:
            said = self.line.clean(words(json.dumps({"error": chunk.error}).encode()))
            raise WorkerError(worded("openai.gave_up", variant=answer.request.variant, host=self.line.host, said=said))
        answer.usage = chunk.usage or answer.usage
        for choice in chunk.choices:
            if choice.index == 0:
                answer.take(choice)

    def _again(self, answer: Answer, path: str, body: dict[str, Any], refusal: Refused) -> None:
        """Change a request that was refused where its meaning stays, or raise why it was."""
        said = refusal.said
        of_field = refusal.status in (400, 422) and any(word in said.lower() for word in UNKNOWN)
        if "stream_options" in said and "stream_options" in body:
            self._learned.add("stream_options")
        elif refusal.status in OF_THE_REQUEST and is_too_long(said):
            shorter = Conversation(messages=answer.request.messages).without_oldest_turn()
            if shorter is None or answer.request.whole:
                hint = worded("openai.shorten")
                raise ContextError(refusal.message, hint) from refusal
            answer.request = answer.request.model_copy(update={"messages": shorter.messages})
            answer.dropped += 1
        elif of_field and path == "/chat/completions" and NEWER in said and "max_tokens" in body:
            self._learned.add(NEWER)
        elif (idle := self._idle(body, refusal)) is not None:
            self._left_out.add(idle)
        elif refusal.status not in OF_THE_REQUEST:
            raise WorkerError(refusal.message, refusal.hint) from refusal
        else:
            raise self._explained(body, refusal)

    def _idle(self, body: dict[str, Any], refusal: Refused) -> str | None:
        """Return the field that was refused although, at its value, it changes nothing; None where it is none."""
        name = dialect.refused(body, refusal.said) if refusal.status in (400, 422) else None
        sent = self.dialect.names.get(name or "", name or "")
        return sent if sent in body and dialect.is_idle(self.dialect, sent, body[sent]) else None

    def _explained(self, body: dict[str, Any], refusal: Refused) -> VariantError:
        name = dialect.refused(body, refusal.said) if refusal.status in (400, 422) else None
        if name is None:
            return refusal
        known = NEUTRAL_WORDS.get(name)
        neutral = (
            worded(known) if known else worded("openai.set_neutral", name=name, value=dialect.NEUTRAL.get(name, 0))
        )
        return VariantError(
            worded(
                "openai.not_take",
                name=self.spec.name,
                host=self.line.host,
                name2=name,
                said=refusal.said,
                neutral=neutral,
            ),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self.line.close()


def _most(answer: Answer) -> int:
    return answer.request.sampling.max_new_tokens


def _size(found: Any) -> int:
    """Return a number of tokens that a server told; 0 where it is none."""
    return found if type(found) is int and 0 < found < 2**31 else 0


def is_too_long(said: str) -> bool:
    """Return whether a server's words say that the prompt does not fit."""
    return any(words in said.lower() for words in TOO_LONG)


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _limit(request: RowRequest) -> int:
    a_token = BYTES_A_TOKEN + BYTES_A_TOP * (request.top_logprobs or 0)
    return BYTES_BESIDE + a_token * request.sampling.max_new_tokens
