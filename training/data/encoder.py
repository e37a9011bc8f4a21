"""A model's tokenizer and prompt format without transformers: examples become token ids and the places of the loss.

Prompts are rendered by playground/prompts.py, so a model is trained on the very text that the chat will send. The loss
is on answers: a token counts where it holds some of one, and an answer ends with the end of its turn.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground import prompts
from playground.errors import VariantError
from playground.messages import Message
from playground.thinking.asked import Thinking
from playground.thinking.habits import Habits, habits, tail
from playground.thinking.tags import Tags
from playground.traits import Notice, Traits, traits_of
from training.data.examples import Example, Turn
from training.data.thoughts import parted, written

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IGNORED = -100
"""The label of a token that carries no loss, as PyTorch and TRL spell it."""


@dataclass(frozen=True)
class Tokens:
    """Token ids with their labels: the id itself where there is loss, IGNORED elsewhere. Both [tokens]."""

    ids: list[int]
    labels: list[int]

    @property
    def answers(self) -> int:
        """Return how many tokens carry loss."""
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> "Tokens":
        """Return the first `length` tokens."""
        return Tokens(self.ids[:length], self.labels[:length])


@dataclass(frozen=True)
class Pair:
    """A preference as token ids: the prompt, and each answer after it."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


@dataclass(frozen=True)
class Text:
    """A rendered row: the text, and the [start, end) of each part that is learnt, in characters."""

    text: str
    learnt: tuple[tuple[int, int], ...]


class Encoder:
    """Renders and tokenizes for one model. `prompt_format`: a named one, for models without a chat template."""

    def __init__(self, folder: Path, prompt_format: str | None = None, name: str = "") -> None:
        self.folder = folder
        self.name = name or folder.name
        self.prompt_format = prompt_format
        self._config = _json(folder / "tokenizer_config.json")

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """Return the model's own tokenizer, as the package `tokenizers` reads it."""
        from tokenizers import Tokenizer

        file = self.folder / "tokenizer.json"
        if file.is_file():
            made = Tokenizer.from_file(str(file))
        else:  # an old SentencePiece folder: transformers converts it
            from transformers import AutoTokenizer

            made = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False).backend_tokenizer
        made.no_truncation()
        made.no_padding()
        return made

    @property
    def has_template(self) -> bool:
        """Return whether the model brings a chat template of its own."""
        return bool(self._own_template)

    @cached_property
    def chosen(self) -> prompts.PromptFormat:
        """Return the format of conversations: the named one, else the model's template, else Alpaca's."""
        return prompts.choose(self.name, self._own_template, self.prompt_format or self._fallback)

    @cached_property
    def traits(self) -> Traits:
        """Return what the format of conversations does with the turns it gets."""
        return traits_of(self.chosen.template, self.tokens)

    @cached_property
    def habits(self) -> Habits:
        """Return what the format of conversations does about thoughts."""
        return habits(self.chosen.template)

    @property
    def format_used(self) -> str | None:
        """Return the named format that conversations are rendered in; None for the model's own template."""
        return self.prompt_format or self._fallback

    @property
    def _fallback(self) -> str | None:
        return None if self.has_template else "alpaca"

    @cached_property
    def _own_template(self) -> str | None:
        return prompts.own_template(self.folder, self._config)

    @cached_property
    def tokens(self) -> dict[str, str]:
        """Return the special tokens by the names that a template is given them under."""
        return prompts.special_tokens(self.folder, self._config)

    @cached_property
    def bos(self) -> str:
        """Return the token that begins a text; empty where there is none."""
        return self.tokens.get("bos_token", "")

    @cached_property
    def eos(self) -> str:
        """Return the token that ends a text. A model without it never learns to stop: VariantError."""
        eos = self.tokens.get("eos_token", "")
        if not eos:
            raise VariantError(
                f"The tokenizer of {self.name} names no EOS token.",
                f"Add eos_token to {self.folder / 'tokenizer_config.json'}.",
            )
        return eos

    def render(self, example: Example, answers_only: bool = True) -> list[Text]:
        """Return the text of a conversation or of plain text; several where the template rewrites earlier turns.

        Plain text is learnt whole, and ends with EOS. `answers_only` False has the prompt learnt, too.
        """
        if example.kind == "text":
            text = example.text if example.text.rstrip().endswith(self.eos) else example.text + self.eos
            return [Text(text, ((0, len(text)),))]
        turns = [parted(turn, self.habits) for turn in example.turns]
        spans = self._spans(turns)
        if spans is None:
            return [self._last_answer(turns[: end + 1]) for end in _answers(turns) if turns[end].learnt]
        whole = self._ended(self._said(turns, self._variables(turns)))
        return [Text(whole, spans if answers_only else ((0, len(whole)),))]

    def _spans(self, turns: Sequence[Turn]) -> tuple[tuple[int, int], ...] | None:
        """Return where the answers stand in the whole; None where a template rewrites turns, or leaves answers out."""
        answers = _answers(turns)
        if not self.traits.answers or len({bool(turns[place].thought) for place in answers}) > 1:
            return None
        given, spans = self._variables(turns), []
        whole = self._ended(self._said(turns, given))
        for place in answers:
            before, _ = self._prompt(turns[:place], given, bool(turns[place].thought))
            after = whole if place == len(turns) - 1 else self._said(turns[: place + 1], given)
            if not (whole.startswith(before) and whole.startswith(after) and self._holds(after, before, turns[place])):
                return None
            if turns[place].learnt:
                spans.append((len(before), len(after)))
        return tuple(spans)

    def _last_answer(self, turns: Sequence[Turn], thinks: bool | None = None) -> Text:
        """Return a row whose last answer alone is learnt; put together where its beginning is not the prompt.

        `thinks`: whether its prompt has it thought about; as its answer was, where that is not said.
        """
        turns = [parted(turn, self.habits) for turn in turns]
        last, thinks = turns[-1], bool(turns[-1].thought) if thinks is None else thinks
        given = self._variables(turns[-1:], thinks)
        before, opened = self._prompt(turns[:-1], given, thinks)
        whole = self._ended(self._said(turns, given))
        if not (self.traits.answers and whole.startswith(before) and self._holds(whole, before, last)):
            closed = self.habits.tags and self.traits.answers and last.content in whole
            end = whole.rpartition(last.content)[2] if closed else self.eos
            whole = before + written(last, opened, next(iter(self.habits.tags), None)) + end
        return Text(whole, ((len(before), len(whole)),))

    def _prompt(self, turns: Sequence[Turn], given: Mapping[str, Any], thinks: bool) -> tuple[str, Tags | None]:
        """Return the prompt of an answer that is thought about, or is not, and the tags of the thought it opens."""
        prompt = self._said(turns, given, opened=True)
        if not self.habits.tags:
            return prompt, None
        begun = tail(prompt, self._said(turns, given), turns[-1].content)
        rest = "" if thinks or not self.habits.opened(begun) else self.habits.finished(begun, Thinking(mode="off"))
        return prompt + rest, self.habits.opened(begun + rest)

    def _variables(self, turns: Sequence[Turn], thinks: bool | None = None) -> dict[str, Any]:
        """Return what the template is given so that it has an answer thought about, or not, as its data has it."""
        thinks = any(turn.thought for turn in turns) if thinks is None else thinks
        if thinks:
            return self.habits.variables(Thinking(mode="on")) if self.habits.default is False else {}
        return self.habits.variables(Thinking(mode="off"))

    def _holds(self, whole: str, before: str, answer: Turn) -> bool:
        """Return whether what follows a prompt holds the answer's thought, once."""
        return not (answer.thought and self.habits.tags) or whole[len(before) :].count(answer.thought.strip()) == 1

    def notices(self, example: Example) -> tuple[Notice, ...]:
        """Return what becomes of turns before an answer that the template has no place for."""
        turns = example.turns if example.kind == "preference" else example.turns[:-1]
        return self.traits.notices(_messages(turns))

    def _said(self, turns: Sequence[Turn], given: Mapping[str, Any], opened: bool = False) -> str:
        return prompts.render(self.chosen, _messages(turns), self.tokens, opened, given)

    def _ended(self, text: str) -> str:
        """Return the text with an end: EOS, where the template itself closed the turn with no token that ends one."""
        if self.format_used:  # ours ends a turn with EOS and white space, which nobody should learn to write
            return text.rstrip() if text.rstrip().endswith(self.eos) else text.rstrip("\n") + self.eos
        return text if text.rstrip().endswith(self._ends) else text.rstrip("\n") + self.eos

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """Return EOS and the tokens that close turns in this template."""
        return (self.eos, *prompts.end_tokens(self.chosen.template))

    def encode(self, rows: Sequence[Text]) -> list[Tokens]:
        """Return ids and labels of rendered rows; control tokens are read as such, and BOS comes once or never."""
        encoded: list[Tokens | None] = [None] * len(rows)
        for special in (True, False):
            places = [index for index, row in enumerate(rows) if self._wants_special(row.text) == special]
            batch = self.tokenizer.encode_batch([rows[place].text for place in places], add_special_tokens=special)
            for place, encoding in zip(places, batch, strict=True):
                encoded[place] = _labelled(encoding, rows[place])
        return [tokens for tokens in encoded if tokens is not None]

    def pair(self, example: Example) -> Pair:
        """Return a preference as token ids."""
        sides = [parted(Turn("assistant", said), self.habits) for said in (example.chosen, example.rejected)]
        thinks = any(side.thought for side in sides)
        answers = [self._last_answer((*example.turns, side), thinks) for side in sides]
        prompt = answers[0].text[: answers[0].learnt[0][0]]
        ids = self._ids(prompt)
        chosen, rejected = (self._ids(row.text[row.learnt[0][0] :], first=False) for row in answers)
        return Pair(ids, chosen, rejected)

    def _ids(self, text: str, first: bool = True) -> list[int]:
        special = first and self._wants_special(text)
        return list(self.tokenizer.encode(text, add_special_tokens=special).ids)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, BOS included where the tokenizer adds it; on every core."""
        counted: list[int] = []
        for start in range(0, len(texts), COUNTED_AT_ONCE):
            part = texts[start : start + COUNTED_AT_ONCE]
            batch = self.tokenizer.encode_batch_fast(part, add_special_tokens=False)
            counted += [len(e.ids) + self.added(text) for e, text in zip(batch, part, strict=True)]
        return counted

    def added(self, text: str) -> int:
        """Return how many tokens the tokenizer adds to this text: none where the template wrote BOS already."""
        return self._most_added if self._wants_special(text) else 0

    @cached_property
    def _most_added(self) -> int:
        return int(self.tokenizer.num_special_tokens_to_add(False))

    def _wants_special(self, text: str) -> bool:
        return not (self.bos and text.startswith(self.bos))


COUNTED_AT_ONCE = 512


def _labelled(encoding: Any, row: Text) -> Tokens:
    """Give the loss to tokens that begin in a learnt part, or in the space before it: ` Hello` is one token."""
    ids = list(encoding.ids)  # asked for once: every time, the whole list is made anew
    labels = [IGNORED] * len(ids)
    spans = iter(row.learnt)
    span = next(spans, None)
    for index, ((start, end), special) in enumerate(zip(encoding.offsets, encoding.special_tokens_mask, strict=True)):
        while span is not None and start >= span[1]:
            span = next(spans, None)
        if span is None:
            break
        if special and start == end:  # a BOS that was added has no place
            continue
        if start >= span[0] or row.text[span[0] : end].strip():
            labels[index] = ids[index]
    return Tokens(ids, labels)


def _messages(turns: Sequence[Turn]) -> list[Message]:
    return [
        Message(role=turn.role, content=turn.content, reasoning_content=turn.thought or None)  # type: ignore[arg-type]
        for turn in turns
    ]


def _answers(turns: Sequence[Turn]) -> list[int]:
    return [place for place, turn in enumerate(turns) if turn.role == "assistant"]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VariantError(
            f"{path.parent} has no tokenizer that can be read: {path.name}, {error.strerror}.",
            "Copy tokenizer.json and tokenizer_config.json beside the weights.",
        ) from error
    except ValueError as error:
        raise VariantError(f"{path} is not valid JSON: {error}.", "Copy the file again.") from error
    return content if isinstance(content, dict) else {}
