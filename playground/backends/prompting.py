"""From a request to the prompt that a model receives, the same for every engine."""

from collections.abc import Sequence
from typing import NamedTuple

from playground.errors import VariantError
from playground.prompts import choose, render
from playground.protocol import RowRequest, Tokenizer
from playground.traits import Notice, traits_of


class Prompt(NamedTuple):
    """What a model receives: the text, its token ids, and the strings at which an answer in this format ends."""

    text: str
    ids: list[int]
    stops: tuple[str, ...]
    notices: tuple[Notice, ...] = ()
    """What became of turns that the template has no place for."""


def prompt_of(tokenizer: Tokenizer, request: RowRequest) -> Prompt:
    """Return the prompt of a request: its raw text, or its turns through the model's own template or the named format.

    Encoded with its control tokens parsed, and never with a second BOS: a template of the model's own brings the first.
    Token ids are taken as they are; their text is what they spell, control tokens by name.
    """
    if request.ids is not None:
        ids = checked(tokenizer, request.ids)
        return Prompt(b"".join(map(tokenizer.piece, ids)).decode(errors="replace"), ids, ())
    if request.text is not None:
        return Prompt(request.text, tokenizer.encode(request.text), ())
    words = tokenizer.vocabulary()
    chosen = choose(request.variant, words.template, request.prompt_format)
    text = render(chosen, request.messages, words.tokens)
    notices = traits_of(chosen.template, words.tokens).notices(request.messages)
    return Prompt(text, tokenizer.encode(text, None if request.prompt_format else False), chosen.stop, notices)


def checked(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """Return token ids that the model knows, at least one. Raises VariantError: an engine would end its process."""
    if not ids:
        raise VariantError("The prompt is empty.", "Send at least one token.")
    strange = next((token for token in ids if not 0 <= token < tokenizer.size), None)
    if strange is not None:
        raise VariantError(
            f"Token id {strange} is none of this model's {tokenizer.size}.",
            "Encode the text with this model's own tokenizer.",
        )
    return list(ids)
