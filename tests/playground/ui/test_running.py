"""What runs for whom: one comparison a session, and what waits behind it."""

from playground.conversations.turns import Chat
from playground.ui.running import MOST_PARKED, Running, Waiting


class Asked:
    """A comparison that counts its cancellations."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


def test_a_new_comparison_cancels_the_older_one_of_that_session_alone() -> None:
    running, first, other, second = Running(), Asked(), Asked(), Asked()
    running.begin("me", first)
    running.begin("you", other)
    running.begin("me", second)
    assert (first.cancelled, other.cancelled, second.cancelled) == (1, 0, 0)
    assert running.is_current("me", second)
    assert not running.is_current("me", first)


def test_stop_still_hears_the_end_and_drop_does_not() -> None:
    running, asked = Running(), Asked()
    running.begin("me", asked)
    running.stop("me")
    assert (asked.cancelled, running.busy("me")) == (1, True)
    running.drop("me")
    assert (asked.cancelled, running.busy("me")) == (2, False)
    running.stop("me")
    running.drop("me")


def test_what_others_may_look_at_goes_on() -> None:
    running, asked = Running(), Asked()
    running.begin("me", asked)
    running.drop("me", cancel=False)
    assert (asked.cancelled, running.busy("me")) == (0, False)


def test_an_old_end_does_not_end_the_new_one() -> None:
    running, old, new = Running(), Asked(), Asked()
    running.begin("me", old)
    running.begin("me", new)
    assert running.following("me", old) is None
    assert running.busy("me")
    assert running.following("me", new) is None
    assert not running.busy("me")


def test_a_question_waits_its_turn_and_a_double_click_does_not() -> None:
    running, comparison = Running(), Asked()
    claim = running.claim("me", Waiting("one", {}))
    assert claim
    assert running.claim("me", Waiting("one", {})) is None  # a double click, before anything began
    running.begin("me", comparison)
    for question in ("two", "two", "three"):
        assert running.claim("me", Waiting(question, {})) is None
    assert running.claim("you", Waiting("two", {}))
    assert [one.question for one in running.waiting("me")] == ["two", "three"]
    key = running.waiting("me")[1].key
    taken = running.take_back("me", key)
    assert taken
    assert taken.question == "three"
    assert running.take_back("me", key) is None
    following = running.following("me", comparison)
    assert following
    assert following.question == "two"
    assert running.busy("me")
    assert running.following("me", comparison) is None
    assert not running.busy("me")


def test_what_is_left_is_told_once_and_never_over_new_answers() -> None:
    running = Running()
    running.begin("me", Asked())
    running.drop("me", left=Chat())
    assert running.left("me") == Chat()
    assert running.left("me") is None
    running.drop("me", left=Chat())
    running.begin("me", Asked())
    assert running.left("me") is None


def test_questions_that_waited_are_adopted_once_by_whoever_has_their_names() -> None:
    running = Running()
    running.claim("before", Waiting("one", {}))
    for question in ("two", "three"):
        running.claim("before", Waiting(question, {}))
    two, three = running.waiting("before")
    running.adopt("thief", ["1", "2", ""])
    assert running.waiting("thief") == []
    running.adopt("after", [two.key])  # its session has not ended yet
    assert [one.question for one in running.waiting("before")] == ["three"]
    running.park(running.drop("before"))
    running.adopt("after", [two.key, three.key])
    assert running.waiting("after") == [two, three]
    running.adopt("again", [three.key])
    assert (running.waiting("after"), running.waiting("again")) == ([two], [three])  # moved, never asked twice


def test_few_questions_of_browsers_that_left_are_kept() -> None:
    running = Running()
    many = [Waiting(str(number), {}, str(number)) for number in range(MOST_PARKED + 1)]
    running.park(many)
    running.adopt("me", ["0", "1"])
    assert running.waiting("me") == [many[1]]
