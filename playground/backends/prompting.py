"""From a request to the prompt that a model receives, the same for every engine."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from playground.errors import VariantError
from playground.prompts import PromptFormat, choose, continued, render, write
from playground.protocol import RowRequest, Tokenizer
from playground.thinking.habits import habits, tail
from playground.thinking.tags import Tags
from playground.traits import Notice, traits_of
from playground.typed.control import Control, control_of
from playground.typed.written import Written
from playground.wording import worded


class Prompt(NamedTuple):
    """What a model receives: the text, its token ids, and the strings at which an answer in this format ends.

    `families`: the tags that an answer to it may have its thought in; `opened`: those of the thought it begins within.
    """

    text: str
    ids: list[int]
    stops: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    """What became of turns that the template has no place for."""
    families: tuple[Tags, ...] = ()
    opened: Tags | None = None
    thinks: bool = False


class TooLong(Exception):  # noqa: N818 - a finding, of which the scheduler makes what it means
    """A prompt takes more tokens than it may; `least` of them, without its having been encoded."""

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.least = least


def prompt_of(tokenizer: Tokenizer, request: RowRequest, most: int | None = None) -> Prompt:
    """Return the prompt of a request: its raw text, or its turns through the model's own template or the named format.

    Encoded with its control tokens parsed, and never with a second BOS: a template of the model's own brings the first.
    Those that a message types are text, unless the request wants them parsed.
    Token ids are taken as they are; their text is what they spell, control tokens by name. TooLong is raised of a text
    that certainly takes more than `most` tokens, and that it does only where encoding it would take long.
    """
    if request.ids is not None:
        ids = checked(tokenizer, request.ids)
        return Prompt(b"".join(map(tokenizer.piece, ids)).decode(errors="replace"), ids)
    words = tokenizer.vocabulary()
    if request.text is not None:
        known = habits(words.template or "")
        _check_length(tokenizer, request.text, most)
        prompt = Prompt(request.text, tokenizer.encode(request.text))
        apart = prompt._replace(families=known.families, opened=known.opened_by(request.text))
        return apart if request.apart else prompt
    chosen = choose(request.variant, words.template, request.prompt_format)
    notices = traits_of(chosen.template, words.tokens).notices(request.messages)
    control = None if request.parse_special else control_of(tokenizer.reserved, chosen.template, words.tokens)
    written, opened = _thought_about(chosen, request, words.tokens, control)
    _check_length(tokenizer, written.text, most)
    ids = _encoded(tokenizer, written, None if request.prompt_format else False)
    known = habits(chosen.template)
    return Prompt(written.text, ids, chosen.stop, notices, known.families, opened, known.thinks)


def _check_length(tokenizer: Tokenizer, text: str, most: int | None) -> None:
    if most is not None and (least := tokenizer.at_least(text)) > most:
        raise TooLong(least)


def _encoded(tokenizer: Tokenizer, written: Written, add_special: bool | None) -> list[int]:
    """Encode what a template wrote; typed control tokens as text."""
    text = written.text
    if not written.typed:
        return tokenizer.encode(text, add_special)
    bos = tokenizer.vocabulary().bos
    adds = add_special if add_special is not None else not (bos and text.startswith(bos))
    before, after = _added(tokenizer) if adds else ([], [])
    ids = written.encoded(
        lambda begin, end: tokenizer.encode(text[begin:end], add_special=False),
        lambda begin, end: tokenizer.plain(text[begin:end], written.control, first=begin == 0),
    )
    return [*before, *ids, *after]


def _added(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the tokens that a tokenizer adds by itself before a text and after it."""
    bare, whole = (tokenizer.encode("a", add_special) for add_special in (False, True))
    at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    return whole[:at], whole[at + len(bare) :]


def _thought_about(
    chosen: PromptFormat, request: RowRequest, tokens: Mapping[str, str], control: Control | None
) -> tuple[Written, Tags | None]:
    """Return the prompt's text, with the thinking that is wanted, and the tags of the thought that it ends within."""
    known = habits(chosen.template)
    wanted = known.meant(chosen.template, request.thinking, request.template_options)
    known.check(request.variant, wanted)
    extra = known.variables(wanted) | request.template_options
    if request.continues or not request.opened:
        make = continued if request.continues else partial(write, opened=False)
        written = make(chosen, request.messages, tokens, extra=extra, control=control)
        return written, known.opened_by(written.text)
    written = write(chosen, request.messages, tokens, extra=extra, control=control)
    if not known.tags:
        return written, None
    closed = render(chosen, request.messages, tokens, opened=False, extra=extra)
    begun = tail(written.text, closed, request.messages[-1].content)
    rest = known.finished(begun, wanted)
    return written.plus(rest), known.opened(begun + rest)


def checked(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """Return token ids that the model knows, at least one. Raises VariantError: an engine would end its process."""
    if not ids:
        raise VariantError(worded("prompting.prompt_empty"))
    strange = next((token for token in ids if not 0 <= token < tokenizer.size), None)
    if strange is not None:
        raise VariantError(
            worded("prompting.token_id_none", strange=strange, size=tokenizer.size),
        )
    return list(ids)
