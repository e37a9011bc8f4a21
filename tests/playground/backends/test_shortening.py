"""The oldest turns that have to go: the fewest that do, found in few looks at short prompts."""

from hypothesis import given
from hypothesis import strategies as st

from playground.backends.shortening import Shorter, least_fitting
from playground.messages import Conversation, Message, Role
from playground.presets import Sampling
from playground.protocol import RowRequest

ROLES: st.SearchStrategy[list[Role]] = st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=12)


def asked(roles: list[Role], whole: bool = False) -> RowRequest:
    turns = tuple(Message(role=role, content=str(place)) for place, role in enumerate(roles))
    return RowRequest(variant="v", messages=turns, sampling=Sampling(), whole=whole)


@given(ROLES)
def test_turns_go_one_after_the_other(roles: list[Role]) -> None:
    shorter = Shorter(asked(roles))
    left: Conversation | None = Conversation(messages=shorter.without(0).messages)
    for dropped in range(shorter.most + 1):
        assert left is not None
        assert shorter.without(dropped).messages == left.messages
        left = left.without_oldest_turn()
    assert left is None


def test_a_prompt_that_must_be_whole_loses_none() -> None:
    assert Shorter(asked(["user"] * 5, whole=True)).most == 0


@given(st.integers(1, 5000), st.data())
def test_the_fewest_that_do_are_found_from_the_short_side(most: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(1, most))
    looked: list[int] = []

    def fits(dropped: int) -> bool:
        looked.append(dropped)
        return dropped >= least

    assert least_fitting(most, fits) == least
    left = most - least + 1
    assert len(looked) <= 2 * left.bit_length() + 1
    assert all(most - dropped <= 2 * left for dropped in looked)  # none is twice as long as what fits
