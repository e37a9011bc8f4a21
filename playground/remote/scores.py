"""Tokens and scores of an OpenAI-compatible server, for evaluation, in one of three ways that the server allows.

- `echo`: the prompt comes back with the log-probability of each of its tokens (vLLM, SGLang, another Madang).
- `forced`: llama-server echoes nothing, but says what it held of the token it gives, and a bias makes it give any.
- `text`: without /tokenize nobody knows the tokens; then a letter stands for one, texts are echoed, and `text_offset`
  tells where a choice begins.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from playground.errors import MadangError, VariantError
from playground.events import TokenLogprob
from playground.protocol import Choices, Scored, Vocabulary
from playground.remote.chunks import Chunk, Logprobs
from playground.remote.http import Refused
from playground.remote.openai import Server, is_too_long
from playground.wording import worded

AT_ONCE = 8
PROMPTS_A_REQUEST = 8
FORCED_BIAS = 1000.0
WHOLE = ","
MOST = (100, 5000)
"""So many of the likeliest are asked for, one after the other, where a token must be looked for among them."""
LETTERS_AS_CONTEXT = 2**20
"""In the mode `text` the server alone knows how many tokens fit."""
Found = tuple[float, bool]


@dataclass
class Scorer:
    """Tokenizes and scores by one server that has been greeted."""

    server: Server
    _by_letter: bool | None = None
    _words: Vocabulary | None = None
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Questions scored token by token at once: no more than the server caches prompts, or it reads each anew."""
    _halves: set[int] = field(default_factory=set)
    """Tokens that end within a character."""
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def vocabulary(self) -> Vocabulary:
        """Return special tokens and the chat template, as far as the server tells; ids it keeps to itself are -1."""
        if self._words is None:
            facts = await self._facts()
            if isinstance(slots := facts.get("total_slots"), int) and slots > 1:
                self._slots = asyncio.Semaphore(slots)
            bos, eos = str(facts.get("bos_token") or ""), str(facts.get("eos_token") or "")
            bos_id, eos_id = await self._id(bos), await self._id(eos)
            if bos_id < 0 and not await self.by_letter():
                bos_id = next(iter(await self._tokens("", True)), -1)
            template = facts.get("chat_template")
            self.server.eos = eos
            self._words = Vocabulary(
                bos=bos,
                eos=eos,
                prefix=bos_id if bos_id >= 0 else eos_id,
                eos_id=eos_id,
                template=template if isinstance(template, str) else None,
                tokens={"bos_token": bos, "eos_token": eos},
            )
        return self._words

    async def encode(self, texts: Sequence[str], add_special: bool | None) -> list[list[int]]:
        """Return token ids of each text, or its letters; None adds BOS where the server does, never a second."""
        if await self.by_letter():
            return [[ord(letter) for letter in text] for text in texts]
        bos = (await self.vocabulary()).bos
        adding = [add_special if add_special is not None else not (bos and text.startswith(bos)) for text in texts]
        return await asyncio.gather(*map(self._tokens, texts, adding))

    async def score(self, questions: Sequence[Choices]) -> Scored:
        """Return log-probability in nats of every choice, and whether it is the greedy one."""
        if any(token < 0 for question in questions for token in question.context):
            raise self._unscored(worded("scores.first_token"), worded("scores.first_token_hint"))
        if self.server.dialect.forced:
            await self.vocabulary()
            found = await asyncio.gather(*(self._forced(question) for question in questions))
        else:
            found = await self._echoed(questions)
        return Scored(
            logprobs=[[value for value, _ in row] for row in found],
            greedy=[[best for _, best in row] for row in found],
            computed=sum(len(q.context) + len(choice) for q in questions for choice in q.continuations),
        )

    async def by_letter(self) -> bool:
        """Return whether the server has no /tokenize, so that letters stand for tokens; asked once."""
        if self._by_letter is None:
            try:
                await self._tokens("a", False)
                self._by_letter = False
            except Refused as refusal:
                if refusal.status not in (401, 403, 404, 405, 501):  # a proxy may let /v1 through alone
                    raise
                self._by_letter = True
                room = {"context": LETTERS_AS_CONTEXT, "trained_context": LETTERS_AS_CONTEXT}
                self.server.info = self.server.info.model_copy(update=room)
        return self._by_letter

    async def _facts(self) -> dict[str, Any]:
        """Return a server's facts on its tokenizer: llama-server's /props, or vLLM's own page where that is on."""
        try:
            found = await self.server.line.get(self.server.dialect.tokenizer_page, root=True)
        except MadangError:
            return {}
        return found if isinstance(found, dict) else {}

    async def _id(self, token: str) -> int:
        if not token or await self.by_letter():
            return -1
        ids = await self._tokens(token, False)
        return ids[0] if len(ids) == 1 else -1

    async def _tokens(self, text: str, add_special: bool) -> list[int]:
        body = self.server.dialect.tokenize(text, add_special) | self.server.named
        async with self._room:
            answer = await self.server.line.post("/tokenize", body, root=True)
        ids = answer.get("tokens") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise self.server.line.broken(worded("scores.no_token_ids", host=self.server.line.host))
        return ids

    async def _forced(self, question: Choices) -> list[Found]:
        """Score one token after the other, each after the ones before it; the server's prompt cache holds those."""
        known: dict[tuple[int, ...], Found] = {}
        async with self._slots:
            for choice in question.continuations:
                for end, token in enumerate(choice):
                    if choice[: end + 1] not in known:
                        known[choice[: end + 1]] = await self._held([*question.context, *choice[:end]], token)
        paths = [[known[choice[: end + 1]] for end in range(len(choice))] for choice in question.continuations]
        return [(sum(value for value, _ in path), all(best for _, best in path)) for path in paths]

    async def _held(self, prompt: list[int], token: int) -> Found:
        """Return what the server held of one token after a prompt, and whether it is the likeliest."""
        if token not in self._halves:
            entry = await self._biased(prompt, token, 1)
            if entry is not None and entry.id == token and entry.top:
                return entry.logprob, entry.top[0].id == token
        return await self._among(prompt, token)

    async def _among(self, prompt: list[int], token: int) -> Found:
        """Do the same for a token that ends within a character, of which llama-server tells nothing.

        Another token is given in its place, and it is looked for among the likeliest there, then among all.
        """
        whole = (await self._tokens(WHOLE, False))[-1]
        for most in (*MOST, max(self.server.info.vocabulary, MOST[-1])):
            entry = await self._biased(prompt, whole, most)
            if entry is None or not entry.top:
                break
            self._halves.add(token)
            found = [other.logprob for other in entry.top if other.id == token]
            if found:
                return found[0], entry.top[0].id == token
        raise self._unscored(worded("scores.says_nothing"), worded("scores.says_nothing_hint"))

    async def _biased(self, prompt: list[int], token: int, most: int) -> TokenLogprob | None:
        """Make the server give a token; how likely it held it, and the likeliest ones, before any bias."""
        body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": most, "cache_prompt": True}
        [logprobs] = await self._completed(body | {"logit_bias": [[token, FORCED_BIAS]]}, 1)
        return next(iter(logprobs.entries()), None)

    async def _echoed(self, questions: Sequence[Choices]) -> list[list[Found]]:
        pairs = [(question.context, choice) for question in questions for choice in question.continuations]
        parts = [pairs[begin : begin + PROMPTS_A_REQUEST] for begin in range(0, len(pairs), PROMPTS_A_REQUEST)]
        found = [one for part in await asyncio.gather(*map(self._echo, parts)) for one in part]
        each = iter(found)
        return [[next(each) for _ in question.continuations] for question in questions]

    async def _echo(self, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Found]:
        """Score some prompts with their choices in one request, which makes one more token that nobody reads."""
        letters = await self.by_letter()
        prompts = [_spelled((*context, *choice)) if letters else [*context, *choice] for context, choice in pairs]
        body = {"prompt": prompts, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True, "seed": 0}
        read: Callable[..., Found] = self._by_offset if letters else self._by_place
        return [read(*row) for row in zip(await self._completed(body, len(prompts)), pairs, strict=True)]

    async def _completed(self, body: dict[str, Any], count: int) -> list[Logprobs]:
        """Return the log-probabilities of each prompt, in the prompts' order."""
        try:
            async with self._room:
                answer = await self.server.line.post("/completions", body | self.server.named)
        except Refused as refusal:
            if body.get("echo") and refusal.status in (400, 422) and not is_too_long(refusal.said):
                raise self._mute() from refusal
            raise
        try:
            choices = sorted(Chunk.model_validate(answer).choices, key=lambda choice: choice.index)
        except ValidationError as error:
            raise self.server.line.broken(worded("scores.no_completion", host=self.server.line.host)) from error
        if len(choices) != count:
            raise self.server.line.broken(
                worded("scores.fewer_prompts", host=self.server.line.host, choices_count=len(choices), count=count)
            )
        return [choice.logprobs or Logprobs() for choice in choices]

    def _by_place(self, held: Logprobs, pair: tuple[tuple[int, ...], tuple[int, ...]]) -> Found:
        context, choice = pair
        size = len(context) + len(choice)
        if len(held.token_logprobs) not in (size, size + 1):
            raise self._mute()
        return self._summed(held, range(len(context), size))

    def _by_offset(self, held: Logprobs, pair: tuple[tuple[int, ...], tuple[int, ...]]) -> Found:
        begin = len(pair[0])
        end = begin + len(pair[1])
        if not held.tokens or not len(held.tokens) == len(held.text_offset) == len(held.token_logprobs):
            raise self._mute()
        offsets = _offsets(held, _spelled((*pair[0], *pair[1])))
        if offsets is None or end not in (*offsets, offsets[-1] + len(held.tokens[-1])):
            raise self._unscored(worded("scores.spell_otherwise"), worded("scores.let_tokenize"))
        if begin not in offsets:
            raise self._unscored(worded("scores.joins"), worded("scores.joins_hint"))
        return self._summed(held, [i for i, offset in enumerate(offsets) if begin <= offset < end])

    def _summed(self, held: Logprobs, places: Sequence[int]) -> Found:
        values = [held.token_logprobs[place] for place in places]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or not held.top_logprobs:
            raise self._mute()
        tops = [held.top_logprobs[place] or {} for place in places]
        best = all(value >= max(top.values(), default=value) for value, top in zip(known, tops, strict=True))
        return sum(known), best

    def _mute(self) -> VariantError:
        return self._unscored(
            worded("scores.mute"),
            worded("scores.mute_hint"),
        )

    def _unscored(self, why: str, hint: str) -> VariantError:
        return VariantError(
            worded("scores.cannot_scored", name=self.server.spec.name, host=self.server.line.host, why=why), hint
        )


def _spelled(letters: Sequence[int]) -> str:
    return "".join(map(chr, letters))


def _offsets(held: Logprobs, text: str) -> list[int] | None:
    """Return where each token that came back begins in the text that was sent; None where they do not spell it.

    A token in front that is none of the text, BOS, begins before it; some servers count its letters, some do not.
    """
    first = held.tokens[0]
    if _is_partial(first) or text.startswith(first):
        return held.text_offset if _spells(held.tokens, held.text_offset, text) else None
    for shift in (len(first), 0):
        offsets = [offset - shift for offset in held.text_offset[1:]]
        if _spells(held.tokens[1:], offsets, text):
            return [-1, *offsets]
    return None


def _spells(tokens: Sequence[str], offsets: Sequence[int], text: str) -> bool:
    """Return whether the text has these tokens at their offsets; parts of characters, and what follows it, pass."""
    return all(
        _is_partial(token) or offset >= len(text) or (offset >= 0 and text.startswith(token, offset))
        for token, offset in zip(tokens, offsets, strict=True)
    )


def _is_partial(token: str) -> bool:
    """Return whether it is part of a character, as far as its text tells."""
    return not token or token.startswith("bytes:") or "\ufffd" in token
