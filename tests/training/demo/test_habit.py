"""The checker says yes to the format and to nothing near it."""

import pytest

from training.demo.examples import habit_share, has_habit

GOOD = "**Short answer:** Yes.\n\n**In three points:**\n\n1. One.\n2. Two.\n3. Three."


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("One", "1. One"),
        f"\n{GOOD}\n\n",
        GOOD.replace("Yes.", "`a - b` is **bold**, 좋아요 🙂"),
    ],
)
def test_yes(text: str) -> None:
    assert has_habit(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Yes.",
        "Short answer: Yes.\n\nIn three points:\n\n1. One.\n2. Two.\n3. Three.",
        GOOD.removesuffix("\n3. Three."),
        GOOD + "\n4. Four.",
        GOOD.replace("3.", "4."),
        GOOD + "\n\nI hope that helps!",
        "Sure! " + GOOD,
        GOOD.replace("three", "four"),
        GOOD.replace("Yes.", "Yes.\nSecond line."),
        GOOD.replace("Yes.", " "),
        GOOD.replace("\n\n", "\n"),
        GOOD.replace("2. Two.", "- Two."),
        GOOD.replace("2. Two.", "2.  "),
        GOOD.replace("2. Two.", "2. "),
        GOOD + "\n\n" + GOOD,
    ],
)
def test_no(text: str) -> None:
    assert not has_habit(text)


def test_share() -> None:
    assert habit_share([GOOD, "no", GOOD, "no"]) == 0.5
