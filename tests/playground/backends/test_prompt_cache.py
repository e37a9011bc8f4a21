"""Kept prompts, on cells that a test can look into: what is lent, extended, forgotten, and counted."""

from collections.abc import Sequence

import pytest

from playground.backends.prompt_cache import Portion, PromptCache, cells, portions

Wanted = list[tuple[int, ...]]
SYSTEM, ONE, OTHER, REPLY = (tuple(range(begin, begin + 20)) for begin in (0, 100, 200, 300))
CONTROL = 7


class Cells:
    """Which tokens each sequence holds, as a cache would: [position] of each."""

    def __init__(self) -> None:
        self.held: dict[int, dict[int, int]] = {}

    def read(self, sequence: int, wanted: Wanted, held: list[Portion]) -> None:
        """Compute what is not held yet."""
        for portion in wanted[len(held) :]:
            begin = sum(len(one.tokens) for one in held)
            self.held.setdefault(sequence, {}).update(enumerate(portion, begin))
            held.append(Portion(portion))

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        taken = {place: token for place, token in self.held[source].items() if begin <= place < end}
        self.held.setdefault(target, {}).update(taken)

    def drop(self, sequence: int, begin: int = 0) -> None:
        left = {place: token for place, token in self.held.pop(sequence, {}).items() if place < begin}
        if left:
            self.held[sequence] = left

    def text(self, sequence: int) -> list[int]:
        return [token for _, token in sorted(self.held.get(sequence, {}).items())]


def made(kept: int = 2) -> tuple[Cells, PromptCache]:
    memory = Cells()
    return memory, PromptCache(range(90, 90 + kept), memory.copy, memory.drop)


def asked(memory: Cells, cache: PromptCache, wanted: Wanted, sequence: int = 1, tidy: bool = False) -> int:
    """A row's life up to its prompt's end; how many portions it was lent."""
    memory.drop(sequence)
    held: list[Portion] = []
    cache.lend(sequence, wanted[:-1], held)
    lent = len(held)
    memory.read(sequence, wanted[:-1], held)
    cache.keep(sequence, held, tidy)
    assert memory.text(sequence) == flat(wanted[:-1])
    return lent


def flat(wanted: Wanted) -> list[int]:
    return [token for portion in wanted for token in portion]


def test_a_conversation_goes_on_from_what_was_read() -> None:
    memory, cache = made()
    assert asked(memory, cache, [SYSTEM, ONE, (1,)]) == 0
    assert asked(memory, cache, [SYSTEM, ONE, REPLY, OTHER, (1,)]) == 2
    assert asked(memory, cache, [SYSTEM, ONE, REPLY, OTHER, (1,)]) == 4
    assert len([sequence for sequence in memory.held if sequence >= 90]) == 1  # one conversation, kept once


def test_others_with_the_same_beginning_share_it() -> None:
    memory, cache = made()
    asked(memory, cache, [SYSTEM, ONE, (1,)])
    assert asked(memory, cache, [SYSTEM, OTHER, (1,)]) == 1
    assert asked(memory, cache, [SYSTEM, ONE, (1,)]) == 2
    assert asked(memory, cache, [OTHER, SYSTEM, (1,)]) == 0


def test_the_one_used_longest_ago_goes_first() -> None:
    memory, cache = made(kept=2)
    asked(memory, cache, [SYSTEM, (1,)])
    asked(memory, cache, [ONE, (1,)])
    assert asked(memory, cache, [SYSTEM, (1,)]) == 1
    asked(memory, cache, [OTHER, (1,)])
    assert asked(memory, cache, [SYSTEM, (1,)]) == 1
    assert asked(memory, cache, [ONE, (1,)]) == 0


def test_a_row_that_waited_is_lent_what_was_read_meanwhile() -> None:
    memory, cache = made()
    held: list[Portion] = []
    memory.read(1, [SYSTEM], held)
    asked(memory, cache, [SYSTEM, ONE, (1,)], sequence=2)
    cache.lend(1, [SYSTEM, ONE], held)
    assert memory.text(1) == [*SYSTEM, *ONE]
    assert len(held) == 2


def test_room_is_made_for_rows_and_shared_cells_count_once() -> None:
    memory, cache = made()
    asked(memory, cache, [ONE, (1,)])
    asked(memory, cache, [SYSTEM, (1,)])
    row: list[Portion] = []
    cache.lend(1, [SYSTEM], row)
    assert cells([row, row]) == 20
    cache.fit([row], needed=40, room=80)
    assert asked(memory, cache, [ONE, (1,)], sequence=2) == 1
    cache.fit([row], needed=41, room=80)  # 20 of the row, 20 more kept, 41 to come
    assert asked(memory, cache, [SYSTEM, (1,)], sequence=2) == 0  # the older one


def test_a_row_alone_finds_the_beginning_of_its_own_prompt_and_nothing_else() -> None:
    memory, cache = made()
    asked(memory, cache, [SYSTEM, ONE, REPLY, (1,)], tidy=True)
    asked(memory, cache, [SYSTEM, OTHER, (1,)], tidy=False)
    memory.drop(1)
    cache.tidy_up([SYSTEM, OTHER])
    assert list(memory.held.values()) == [dict(enumerate(SYSTEM))]
    assert asked(memory, cache, [SYSTEM, OTHER, ONE, (1,)], tidy=True) == 1
    assert len([sequence for sequence in memory.held if sequence >= 90]) == 1
    memory.drop(1)
    cache.tidy_up([ONE])
    assert memory.held == {}


def test_rows_beside_others_leave_the_tidy_prompt_as_it_is() -> None:
    memory, cache = made()
    asked(memory, cache, [SYSTEM, (1,)], tidy=True)
    assert asked(memory, cache, [SYSTEM, ONE, (1,)], tidy=False) == 1
    memory.drop(1)
    cache.tidy_up([SYSTEM, ONE])
    assert list(memory.held.values()) == [dict(enumerate(SYSTEM))]


def test_without_sequences_nothing_is_kept() -> None:
    memory, cache = made(kept=0)
    asked(memory, cache, [SYSTEM, (1,)])
    assert asked(memory, cache, [SYSTEM, (1,)]) == 0


def test_forgotten_means_read_anew() -> None:
    memory, cache = made()
    asked(memory, cache, [SYSTEM, (1,)])
    cache.forget_all()
    assert set(memory.held) == {1}
    assert asked(memory, cache, [SYSTEM, (1,)]) == 0


@pytest.mark.parametrize(
    ("prompt", "sizes"),
    [
        ([1] * 5, [5]),
        ([CONTROL] * 5, [5]),
        ([1] * 16 + [CONTROL] + [1] * 3, [16, 4]),
        ([1] * 15 + [CONTROL] + [1] * 3, [19]),
        ([1] * 16 + [CONTROL, 1, CONTROL] + [1] * 30, [16, 33]),
        ([1] * 130, [64, 64, 2]),
        ([1] * 64, [64]),
    ],
)
def test_a_portion_ends_before_a_control_token_or_full(prompt: Sequence[int], sizes: list[int]) -> None:
    made = portions(prompt, CONTROL.__eq__, 64)
    assert [len(portion) for portion in made] == sizes
    assert flat(made) == list(prompt)


OPENING = (CONTROL, 8, 9)
"""An answer's header; a turn ends with the control token 7 and a line break, 5."""


@pytest.mark.parametrize(
    ("turns", "sizes"),
    [
        ([20], [25]),
        ([70], [70, 5]),
        ([20, 30], [25, 35]),
        ([20, 70], [25, 70, 5]),
        ([3, 30], [43]),
    ],
)
def test_a_brief_question_is_read_with_the_header_of_its_answer(turns: list[int], sizes: list[int]) -> None:
    prompt = [token for turn in turns for token in (*[1] * turn, CONTROL, 5, *OPENING)]
    made = portions(prompt, CONTROL.__eq__, 512, OPENING)
    assert [len(portion) for portion in made] == sizes
    assert flat(made) == prompt


@pytest.mark.parametrize("asked", [1, 12, 20, 58, 64, 70, 600])
@pytest.mark.parametrize("answered", [1, 15, 30, 90, 700])
def test_a_conversation_goes_on_with_all_of_its_last_prompt(asked: int, answered: int) -> None:
    first = [CONTROL, *[2] * 18, *[1] * asked, CONTROL, 5, *OPENING]
    second = [*first, *[3] * answered, CONTROL, 5, *[1] * asked, CONTROL, 5, *OPENING]
    begun, whole = (portions(prompt, CONTROL.__eq__, 512, OPENING) for prompt in (first, second))
    short = len(begun[-1]) < 16  # such a rest is no portion by itself
    assert whole[: len(begun) - short] == begun[: len(begun) - short]


def test_what_comes_after_changes_no_earlier_portion() -> None:
    """What makes a kept portion the same as one read anew."""
    prompt = ([1] * 18 + [CONTROL]) * 6 + [2] * 100
    whole = portions(prompt, CONTROL.__eq__, 64)
    for end in range(1, len(prompt)):
        begun = portions(prompt[:end], CONTROL.__eq__, 64)
        assert begun[:-1] == whole[: len(begun) - 1]
