"""What prompts begin with alike is read once: the conversation so far, a system prompt that many share.

The same seed gives the same answer whether or not its prompt was kept: a row that has the cache to itself sees the very
bits that an empty cache would give. Two rules make it so. A prompt is read in portions that follow from it alone, and
only whole portions are shared: kernels for quantized weights round by the shape of a batch (the same prompt in one
portion and in two: up to 0.9 apart in its logits; SmolLM2-135M, Q4_K_M, on a CPU). And such a row finds the beginning
of its own prompt at the beginning of the cache and nothing else: attention sums in an order that follows the cells.
Rows that are answered at once share what they can; their bits depend on each other, kept prompts or not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

SHORTEST = 16
"""Tokens: shorter portions cost more, each a step of its own, than they can save."""
BRIEF = 64
"""Tokens: a shorter question is read in one step with the header of its answer."""
NEAR = 4
"""Tokens between the end of a question and the header of its answer, at most."""
KEPT = 4
"""Prompts that are kept, where the context holds them beside the answers."""

Copy = Callable[[int, int, int, int], None]
"""Makes the cells of positions [begin, end) of one sequence another's, too: from, to, begin, end."""
Drop = Callable[[int, int], None]
"""Forgets a sequence from a position on; cells that no other has are free."""


@dataclass(frozen=True, eq=False)
class Portion:
    """Tokens that were computed in one batch. Prompts that share a stretch of cells hold the same object."""

    tokens: tuple[int, ...]


@dataclass(eq=False)
class _Prompt:
    sequence: int
    tidy: bool
    """Read by rows that had the cache to themselves: it stands at the beginning of the cache."""
    portions: list[Portion] = field(default_factory=list)


class PromptCache:
    """Keeps prompts in sequences of their own, the one used longest ago first to go."""

    def __init__(self, sequences: Iterable[int], copy: Copy, drop: Drop) -> None:
        self._free = list(sequences)
        self._kept: list[_Prompt] = []
        self._copy, self._drop = copy, drop

    def lend(self, sequence: int, wanted: Sequence[tuple[int, ...]], held: list[Portion]) -> None:
        """Give a sequence, which holds the first of the wanted portions, those of the next ones that are kept."""
        best = max(self._kept, key=lambda kept: _alike(kept.portions, wanted), default=None)
        count = _alike(best.portions, wanted) if best else 0
        if best is None or count <= len(held):
            return
        lent = best.portions[len(held) : count]
        begin = tokens(held)
        self._copy(best.sequence, sequence, begin, begin + tokens(lent))
        held.extend(lent)
        self._touch(best)

    def tidy_up(self, wanted: Sequence[tuple[int, ...]]) -> None:
        """Forget all but the tidy beginning of what a row wants that will have the cache to itself."""
        for kept in list(self._kept):
            count = _alike(kept.portions, wanted) if kept.tidy else 0
            if count:
                self._drop(kept.sequence, tokens(kept.portions[:count]))
                del kept.portions[count:]
            else:
                self._forget(kept)

    def keep(self, sequence: int, held: Sequence[Portion], tidy: bool) -> None:
        """Keep what a sequence holds: as the longer form of a prompt that it goes on from, or as one more."""
        wanted = [portion.tokens for portion in held]
        for kept in self._kept:
            count = _alike(kept.portions, wanted)
            if count == len(wanted):
                self._touch(kept)
                return
            if count == len(kept.portions) and tidy == kept.tidy:
                self._extend(kept, sequence, held)
                return
        if not self._free and self._kept:
            self._forget(self._kept[0])
        if self._free:
            self._kept.append(_Prompt(self._free.pop(), tidy))
            self._extend(self._kept[-1], sequence, held)

    def fit(self, rows: Sequence[Sequence[Portion]], needed: int, room: int) -> None:
        """Forget prompts until what is kept, what open rows hold, and the tokens still needed find room."""
        while self._kept and cells((*rows, *(kept.portions for kept in self._kept))) + needed > room:
            self._forget(self._kept[0])

    def forget_all(self) -> None:
        """Keep nothing."""
        for kept in list(self._kept):
            self._forget(kept)

    def _extend(self, kept: _Prompt, sequence: int, held: Sequence[Portion]) -> None:
        self._copy(sequence, kept.sequence, tokens(kept.portions), tokens(held))
        kept.portions.extend(held[len(kept.portions) :])
        self._touch(kept)

    def _touch(self, kept: _Prompt) -> None:
        self._kept.remove(kept)
        self._kept.append(kept)

    def _forget(self, kept: _Prompt) -> None:
        self._drop(kept.sequence, 0)
        self._kept.remove(kept)
        self._free.append(kept.sequence)


def portions(
    prompt: Sequence[int], is_control: Callable[[int], bool], most: int, opening: Sequence[int] = ()
) -> list[tuple[int, ...]]:
    """Cut a prompt as it is read: a portion ends before a control token, as turns begin with, or where it is full.

    `opening`: what answers begin after. A portion ends after it, too, so that the next prompt of a conversation begins
    with all of this one; and a brief question keeps its opening, which would be a step of its own otherwise.
    """
    prompt, opening, ends = tuple(prompt), tuple(opening), [0]

    def opens(begin: int) -> bool:
        return bool(opening) and begin >= 0 and prompt[begin : begin + len(opening)] == opening

    for index, token in enumerate(prompt):
        size = index - ends[-1]
        brief = size < BRIEF and any(opens(near) for near in range(index, index + NEAR))
        turn = opens(index - len(opening)) or (is_control(token) and not brief)
        if size == most or (turn and size >= SHORTEST):
            ends.append(index)
    return [prompt[begin:end] for begin, end in zip(ends, [*ends[1:], len(prompt)], strict=True)]


def tokens(held: Iterable[Portion]) -> int:
    """Return how many tokens these portions hold."""
    return sum(len(portion.tokens) for portion in held)


def cells(holders: Iterable[Iterable[Portion]]) -> int:
    """Return the cells of the cache that these take together: what they share counts once."""
    return tokens({id(portion): portion for held in holders for portion in held}.values())


def _alike(held: Sequence[Portion], wanted: Sequence[tuple[int, ...]]) -> int:
    """Return how many portions both begin with."""
    pairs = zip(held, wanted, strict=False)
    return next((index for index, (one, other) in enumerate(pairs) if one.tokens != other), min(len(held), len(wanted)))
