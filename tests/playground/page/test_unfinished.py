"""What is half there is drawn as it will be: as an answer grows, no block changes its kind and no text its place."""

import html
import re

import pytest

from playground.page.markdown import markdown, parts

ANSWERS = {
    "bold": "Some **bold words** and *light* ones, ***both*** and ~~gone~~ at the end.",
    "bold beside hangul": '그것은 **마당(Madang)**입니다. **"굵게"**는 *기울임*과 다릅니다.',
    "code": "Call `print(x)` or ``a ` b`` now, 2 * 3 * 4 is 24.",
    "link": "See [the *guide*](https://example.org/a) and [more](https://example.org).",
    "headings": "# One\n\nText\n\n## Two\n\nText\n---\n",
    "numbers": "42 is it, and\n\n1984 is a book.",
    "brackets": "As [1] said, x[0] = [1, 2]! And [ that ] is all.",
    "lists": "Do:\n\n1. **First**\n   - inner\n   - more\n2. Second\n\nThen:\n\n- a\n- b\n  still b\n\nEnd.",
    "tasks": "- [ ] one\n- [x] two\n- [ ] three",
    "table": "Look:\n\n| name | value |\n|:-----|------:|\n| **a** | 1 |\n| b | `2` |\n\nEnd.",
    "fence": "Code:\n\n```python\ndef f():\n    return '`'\n```\n\nEnd.",
    "quote": "> said **he**\n> and more\n\nEnd.",
    "rule": "One\n\n---\n\nTwo\n\n***\n\nThree",
    "formulas": "It is $x^2$ or \\(y_1\\), costs $5 or $10,\n\n$$\n\\frac{a}{b}\n$$\n\nand\n\n\\[ a + b \\]\n\nEnd.",
    "tags": "H<sub>2</sub>O and a<br>b, 1 < 2.",
}


def seen(shown: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", shown))).strip().replace(" ", "")


def kinds(shown: str) -> list[str]:
    """The blocks that stand in no other."""
    found, depth = [], 0
    for closes, name in re.findall(r"<(/?)(\w+)[^>]*>", re.sub(r"<br[^>]*>", "", shown)):
        if not closes and depth == 0:
            found.append(name)
        depth += 0 if name == "hr" else -1 if closes else 1
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_nothing_jumps_while_an_answer_grows(name: str) -> None:
    text = ANSWERS[name]
    whole = markdown(text)
    last, final = seen(whole), kinds(whole)
    for end in range(1, len(text) + 1):
        shown = "".join(parts(text[:end], grows=True))
        assert last.startswith(seen(shown)), text[:end]
        assert final[: len(kinds(shown))] == kinds(shown), text[:end]


@pytest.mark.parametrize("name", ANSWERS)
def test_little_is_held_back(name: str) -> None:
    text = ANSWERS[name]
    for end in range(1, len(text) + 1):
        held = len(seen(markdown(text[:end]))) - len(seen("".join(parts(text[:end], grows=True))))
        assert held <= (24 if name in ("link", "brackets") else 14), text[:end]
