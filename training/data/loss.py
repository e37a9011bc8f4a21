"""Where turns that are no answers stand in a rendered text, for those that are learnt, or marked as not to be."""

from collections.abc import Callable, Iterable, Sequence

from playground.errors import VariantError
from playground.typed.written import Written
from training.data.examples import Turn

BEGIN, END = "madangturncourtyard", "madangcourtyardturn"
"""Stand around what a turn says, to find where a template writes it."""
Span = tuple[int, int]


def places(
    turns: Sequence[Turn],
    wanted: Iterable[int],
    text: str,
    say: Callable[[Sequence[Turn]], Written],
    ends: Sequence[str],
) -> list[Span]:
    """Return where turns stand in a text: what lies between the signs around what they say, and what closes them.

    `say` renders turns as the text was. A turn that the template does not write as it is raises VariantError.
    """
    spans = []
    for place in wanted:
        if not turns[place].content.strip():
            continue
        content = BEGIN + turns[place].content + END
        signed = say([*turns[:place], turns[place]._replace(content=content), *turns[place + 1 :]]).text
        before, _, rest = signed.partition(BEGIN)
        after = rest.partition(END)[2]
        end = len(text) - len(after)
        once = signed.count(BEGIN) == signed.count(END) == 1
        if not (once and text.startswith(before) and text.endswith(after) and len(before) < end):
            raise VariantError(
                f"The chat template does not write a turn of role {turns[place].role} so that its loss has a place.",
                "Leave it without loss: data.roles_to_train, and marks such as train, name it.",
            )
        spans.append((len(before), end + _closing(after, ends)))
    return spans


def _closing(after: str, ends: Sequence[str]) -> int:
    """Return how long the token is that closes a turn, with the white space before it."""
    rest = after.lstrip()
    return next((len(after) - len(rest) + len(token) for token in ends if rest.startswith(token)), 0)


def between(spans: Iterable[Span], size: int) -> tuple[Span, ...]:
    """Return the parts of a text of some size that lie between some of its parts."""
    spans = list(spans)
    begins, ends = [0, *(end for _, end in spans)], [*(begin for begin, _ in spans), size]
    return tuple((begin, end) for begin, end in zip(begins, ends, strict=True) if begin < end)
