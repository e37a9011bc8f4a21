"""A model's prompt format without transformers: examples become the text that it learns, and the places of the loss.

Prompts are rendered by playground/prompts.py, so a model is trained on the very text that the chat will send. The loss
is on answers, or on the turns that the data marks: a token counts where it holds some of one, and a turn ends with what
closes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from playground import prompts
from playground.errors import VariantError
from playground.thinking.asked import Thinking
from playground.thinking.habits import Habits, habits, tail
from playground.thinking.tags import Tags
from playground.traits import Notice, Traits, traits_of
from playground.typed.control import Control, control_of
from playground.typed.written import Written
from training.data import loss
from training.data.examples import Example, Turn
from training.data.thoughts import parted, written
from training.data.tokenizing import FolderTokenizer, Pair, Text
from training.data.tools import Ways, lacks, spoken, uses, ways_of, with_calls, with_input


class Encoder(FolderTokenizer):
    """Renders and tokenizes for one model. `prompt_format`: a named one, for models without a chat template.

    `answers_only` False has all learnt, the template's own text too, but for turns that are marked as not to be learnt.
    """

    def __init__(
        self, folder: Path, prompt_format: str | None = None, name: str = "", answers_only: bool = True
    ) -> None:
        super().__init__(folder, name)
        self.prompt_format = prompt_format
        self.answers_only = answers_only

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

    @cached_property
    def ways(self) -> Ways:
        """Return what the format of conversations has a place for of tools."""
        return ways_of(self.chosen.template, self.tokens)

    def lacks(self, example: Example) -> str:
        """Return what of a row's tools the format has no place for; empty where it writes all of them."""
        if not uses(example):
            return ""
        typed = any(map(self.typed_in, example.called))
        return lacks(example, self.ways) or ("control tokens in tools or calls" if typed else "")

    @cached_property
    def control(self) -> Control:
        """Return the tokens that open and end turns; one that a message types is text."""
        return control_of(self.reserved, self.chosen.template, self.tokens)

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

    def render(self, example: Example) -> list[Text]:
        """Return the text of a conversation or of plain text; several where the template rewrites earlier turns.

        Plain text is learnt whole, and ends with EOS.
        """
        if example.kind == "text":
            text = example.text if example.text.rstrip().endswith(self.eos) else example.text + self.eos
            return [Text(text, ((0, len(text)),))]
        if example.kind == "prompt":  # as the chat sends it where nothing is said of thinking
            asked = self._said(self._turns(example), self.habits.variables(Thinking()), opened=True)
            return [Text(asked.text, (), asked.typed)]
        turns, tools = self._turns(example), self._tools(example)
        whole = self._whole(turns, tools)
        return self._apart(turns, tools) if whole is None else [whole]

    def _whole(self, turns: Sequence[Turn], tools: dict[str, Any]) -> Text | None:
        """Return all turns as one text; None where a template rewrites turns, or leaves answers out."""
        given = self._variables(turns) | tools
        whole = self._ended(self._said(turns, given))
        answers = self._spans(turns, given, whole.text)
        if answers is None:
            return None
        marked = {at for at, turn in enumerate(turns) if self._is_learnt(turn) is self.answers_only}
        say = partial(self._said, given=given)
        others = loss.places(
            turns, marked - answers.keys(), whole.text, lambda said: self._ended(say(said)), self._ends
        )
        spans = sorted([*(answers[at] for at in marked & answers.keys()), *others])
        learnt = tuple(spans) if self.answers_only else loss.between(spans, len(whole.text))
        return Text(whole.text, learnt, whole.typed)

    def _apart(self, turns: Sequence[Turn], tools: dict[str, Any]) -> list[Text]:
        """Return a row for each answer, in which it is learnt, and what is learnt of the turns since the last one."""
        rows, begin = [], 0
        for end in _answers(turns):
            row, thinks = self._last_answer(turns[: end + 1], tools=tools), bool(turns[end].thought)
            marked = [at for at in range(begin, end) if self._is_learnt(turns[at])]
            say = partial(self._prompt, given=self._variables(turns[end : end + 1]) | tools, thinks=thinks)
            asked = row.text[: row.learnt[0][0]]
            spans = loss.places(turns[:end], marked, asked, lambda said, say=say: say(said)[0], self._ends)  # type: ignore[misc]
            spans += row.learnt if self._is_learnt(turns[end]) else ()
            rows += [replace(row, learnt=tuple(sorted(spans)))] if spans else []
            begin = end + 1
        return rows

    def _is_learnt(self, turn: Turn) -> bool:
        return turn.learnt if self.answers_only else turn.mark is not False

    def _turns(self, example: Example) -> list[Turn]:
        """Return turns as the format has them: thoughts apart, inputs in their section, calls in their form."""
        turns = (with_input(parted(turn, self.habits), self.chosen.input) for turn in example.turns)
        return [with_calls(turn, self.ways) for turn in turns] if uses(example) else list(turns)

    def _tools(self, example: Example) -> dict[str, Any]:
        """Return what the template is given of a row's tools."""
        return {"tools": list(example.tools)} if example.tools else {}

    def _spans(self, turns: Sequence[Turn], given: Mapping[str, Any], whole: str) -> dict[int, tuple[int, int]] | None:
        """Return where the answers stand in the whole; None where a template rewrites turns, or leaves answers out."""
        answers = _answers(turns)
        if not self.traits.answers or len({bool(turns[place].thought) for place in answers}) > 1:
            return None
        spans = {}
        for place in answers:
            before = self._prompt(turns[:place], given, bool(turns[place].thought))[0].text
            after = whole if place == len(turns) - 1 else self._said(turns[: place + 1], given).text
            if not (whole.startswith(before) and whole.startswith(after) and self._holds(after, before, turns[place])):
                return None
            spans[place] = (len(before), len(after))
        return spans

    def _last_answer(
        self, turns: Sequence[Turn], thinks: bool | None = None, tools: dict[str, Any] | None = None
    ) -> Text:
        """Return a row whose last answer alone is learnt; put together where its beginning is not the prompt.

        `thinks`: whether its prompt has it thought about; as its answer was, where that is not said.
        """
        turns = [parted(turn, self.habits) for turn in turns]
        last, thinks = turns[-1], bool(turns[-1].thought) if thinks is None else thinks
        given = self._variables(turns[-1:], thinks) | (tools or {})
        before, opened = self._prompt(turns[:-1], given, thinks)
        whole = self._ended(self._said(turns, given))
        begins = whole.text.startswith(before.text)
        if not (self.traits.answers and begins and self._holds(whole.text, before.text, last)):
            if last.extra:
                raise VariantError(
                    "The chat template writes calls of tools otherwise in a prompt than in an answer.",
                    "Train a model whose template does not, or leave these rows out.",
                )
            closed = self.habits.tags and self.traits.answers and last.content and last.content in whole.text
            end = whole.text.rpartition(last.content)[2] if closed else self.eos
            whole = before.with_answer(written(last, opened, next(iter(self.habits.tags), None))).plus(end)
        return Text(whole.text, ((len(before.text), len(whole.text)),), whole.typed)

    def _prompt(self, turns: Sequence[Turn], given: Mapping[str, Any], thinks: bool) -> tuple[Written, Tags | None]:
        """Return the prompt of an answer that is thought about, or is not, and the tags of the thought it opens."""
        prompt = self._said(turns, given, opened=True)
        if not self.habits.tags:
            return prompt, None
        begun = tail(prompt.text, self._said(turns, given).text, turns[-1].content)
        rest = "" if thinks or not self.habits.opened(begun) else self.habits.finished(begun, Thinking(mode="off"))
        return prompt.plus(rest), self.habits.opened(begun + rest)

    def _variables(self, turns: Sequence[Turn], thinks: bool | None = None) -> dict[str, Any]:
        """Return what the template is given so that it has an answer thought about, or not, as its data has it."""
        thinks = any(turn.thought for turn in turns) if thinks is None else thinks
        if thinks:
            return self.habits.variables(Thinking(mode="on")) if self.habits.default is False else {}
        return self.habits.variables(Thinking(mode="off"))

    def _holds(self, whole: str, before: str, answer: Turn) -> bool:
        """Return whether what follows a prompt holds the answer's thought, once."""
        return not (answer.thought and self.habits.tags) or whole[len(before) :].count(answer.thought.strip()) == 1

    def typed_in(self, said: str) -> bool:
        """Return whether a message types a control token."""
        return bool(self.control.places(said, "assistant"))

    def notices(self, example: Example) -> tuple[Notice, ...]:
        """Return what becomes of turns before an answer that the template has no place for."""
        turns = example.turns if example.kind in ("preference", "prompt") else example.turns[:-1]
        return self.traits.notices(spoken(turns))

    def _said(self, turns: Sequence[Turn], given: Mapping[str, Any], opened: bool = False) -> Written:
        return prompts.write(self.chosen, spoken(turns), self.tokens, opened, given, self.control)

    def _ended(self, said: Written) -> Written:
        """Return the text with an end: EOS, where the template itself closed the turn with no token that ends one."""
        text = said.text.rstrip()
        ends = (self.eos,) if self.format_used else self._ends
        if not text.endswith(ends) or len(text) in (end for _, end in said.typed):
            return said._replace(text=said.text.rstrip("\n") + self.eos)
        return said._replace(text=text) if self.format_used else said  # nobody should learn to write our white space

    @cached_property
    def _ends(self) -> tuple[str, ...]:
        """Return EOS and the tokens that close turns in this template."""
        return (self.eos, *prompts.end_tokens(self.chosen.template))

    def sides(self, example: Example) -> list[Text]:
        """Return a rated row, or a preference as two rows, the prompt with each answer; the answer alone is learnt.

        Both have one prompt: where either answer was thought about, the other closes a thought that this opens.
        """
        if example.kind == "rated":
            return [self._last_answer(self._turns(example), tools=self._tools(example))]
        sides = [parted(Turn("assistant", said), self.habits) for said in (example.chosen, example.rejected)]
        thinks = any(side.thought for side in sides)
        turns, tools = self._turns(example), self._tools(example)
        return [self._last_answer((*turns, side), thinks, tools) for side in sides]

    def pair(self, example: Example) -> Pair:
        """Return a preference as token ids."""
        chosen, rejected = self.sides(example)
        return Pair(*self._parted(chosen), self._parted(rejected)[1])

    def rated(self, example: Example) -> tuple[list[int], list[int]]:
        """Return a rated row as the token ids of its prompt and of its answer."""
        return self._parted(self.sides(example)[0])

    def _parted(self, row: Text) -> tuple[list[int], list[int]]:
        """Return the token ids of what stands before the answer, and of the answer."""
        (begin, _), *_ = row.learnt
        before, answer = row.part(0, begin), row.part(begin, len(row.text))
        return self.encode([before])[0].ids, self.encode([answer], bos=False)[0].ids


def _answers(turns: Sequence[Turn]) -> list[int]:
    return [place for place, turn in enumerate(turns) if turn.role == "assistant"]
