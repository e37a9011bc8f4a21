"""A chat template is a stranger's program: whatever it does, it ends, and the next one is rendered."""

import ast
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from playground import allowance, template
from playground.allowance import Cancelled, allowed
from playground.errors import VariantError
from playground.messages import Message
from playground.prompts import PromptFormat, render
from playground.traits import traits_of

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
GROWS = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x }}"
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
OTHERS = ("apply_chat_template", "create_chat_completion")
"""What renders templates in libraries."""
TOO_LONG, TOO_LARGE, TOO_MUCH, TOO_DEEP = "computes for more", "MiB", "characters", "recursion"
HOSTILE = {
    LOOP: TOO_LONG,
    "{% for a in range(10**9) %}x{% endfor %}": "Range too big",
    "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}": TOO_MUCH,
    "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}": TOO_DEEP,
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}": TOO_DEEP,
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": TOO_DEEP,
    "{{ 'x' * 10**9 }}": TOO_LARGE,
    "{{ ('x' * 10**9) | length }}": TOO_LARGE,
    "{{ 'x' | center(10**9) }}": TOO_LARGE,
    "{{ '%1000000000d' | format(1) }}": TOO_LARGE,
    "{{ '{:1000000000}'.format(1) }}": TOO_LARGE,
    "{{ 'x' | indent(10**9) }}": TOO_LARGE,
    GROWS % ("'xxxxxxxx'", "ns.x ~ ns.x"): TOO_LARGE,
    GROWS % ("[1]", "[ns.x, ns.x]"): "",  # written out, it has 2**60 ones: out of time or of memory
    "{{ (10 ** (10 ** 9)) % 7 }}": TOO_LONG,
    "{{ lipsum(n=10**8) | length }}": TOO_LONG,
    "x" * 1_000_001: TOO_MUCH,
}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template's seconds are computing, not waiting: however busy the machine is, a good one takes a thousandth."""
    monkeypatch.setattr(allowance, "TEMPLATE_S", 0.5)


def rendered(source: str, text: str = "a") -> str:
    return template.rendered(source, [{"role": "user", "content": text}], False, {})


@pytest.mark.parametrize("source", HOSTILE, ids=lambda text: text[:60])
def test_a_template_that_loops_or_grows_ends(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if HOSTILE[source] == TOO_LARGE:
        monkeypatch.setattr(allowance, "TEMPLATE_S", 20.0)  # so that it is the memory that ends it
    with pytest.raises(template.FAULTS) as refused:
        rendered(source)
    assert HOSTILE[source] in str(refused.value)
    assert rendered(GOOD) == "user: a\n"


def test_a_bomb_that_waits_for_its_word_is_a_refusal_with_a_sentence() -> None:
    bomb = "{% if messages[-1].content == 'now' %}" + LOOP + "{% endif %}" + GOOD
    quiet, now = (Message(role="user", content=text) for text in ("not yet", "now"))
    assert "not yet" in render(PromptFormat(template=bomb), [quiet])
    with pytest.raises(VariantError, match="computes for more than 0.5 s") as refused:
        render(PromptFormat(template=bomb), [now])
    assert "prompt_format" in refused.value.hint


def test_all_that_is_found_out_about_a_template_shares_one_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rendered some twenty times for that: each within its bound would take as many times as long."""
    given: list[float] = []

    def late(child: object, line: str, seconds: float, allowed: object) -> dict[str, object]:
        given.append(seconds)
        return {"value": ["enable_thinking"] if '"words"' in line else "", "seconds": 0.9 * template.PROBE_S}

    monkeypatch.setattr(template._Child, "ask", late)
    traits_of("an own template of this test", {})
    assert len(given) == 2
    assert given[1] < 0.2 * template.PROBE_S


def test_long_conversations_have_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known templates (Gemma 4's) look through all turns for each; strangers' loops are bounded all the same."""
    monkeypatch.undo()
    given: list[float] = []

    def heard(child: object, line: str, seconds: float, allowed: object) -> dict[str, object]:
        given.append(seconds)
        return {"value": "", "seconds": 0.0}

    monkeypatch.setattr(template._Child, "ask", heard)
    for count in (1, 800, 2000, 60_000):
        template.rendered(GOOD, [{"role": "user", "content": "a"}] * count, False, {})
    one, long, longest, hostile = given
    assert one < 2.1
    assert long > 3 * 2.0
    assert longest > 12
    assert hostile < longest + 6


def test_who_gives_up_ends_it_in_its_middle() -> None:
    looks: list[int] = []

    def given_up() -> bool:
        looks.append(1)
        return len(looks) > 2

    before = len(template._idle)
    with pytest.raises(Cancelled), allowed(given_up):
        template.rendered("{{ 1 }}" + LOOP, [], False, {})
    assert len(template._idle) <= max(before - 1, 0)
    assert rendered(GOOD) == "user: a\n"


def test_one_that_was_killed_from_outside_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered(GOOD)
    child = template._idle[-1]
    child._process.kill()
    child._process.wait()
    assert rendered(GOOD) == "user: a\n"


@pytest.mark.parametrize("text", ["\ud83d half", "한글 🎉", "\0\r\n\x85\u2028", '"\\', "</s>"], ids=ascii)
def test_any_text_comes_through_as_it_is(text: str) -> None:
    assert rendered(GOOD, text) == f"user: {text}\n"


def test_rows_by_the_thousand_are_rendered_here_once_the_first_went_well(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Counter[str]()
    answer = template._answer

    def counted(do: str, source: str, given: dict[str, Any]) -> Any:
        asked[source] += 1
        return answer(do, source, given)

    monkeypatch.setattr(template, "_answer", counted)
    waits = "{% if messages[0].content == 'now' %}" + LOOP + "{% elif messages[0].content == 'no' %}"
    waits += "{{ raise_exception('not that') }}{% endif %}" + GOOD
    with template.in_bulk():
        assert [rendered(waits, text) for text in map(str, range(100))] == [f"user: {n}\n" for n in range(100)]
        assert asked[waits] == template.FIRST
        for text, why in (("now", TOO_LONG), ("no", "not that")):
            with pytest.raises(template.FAULTS, match=why):
                rendered(waits, text)
        assert asked[waits] == template.FIRST
        assert len(rendered(waits, "x" * template.LARGEST + "x")) > template.LARGEST
        assert asked[waits] == template.FIRST + 1
    assert rendered(waits, "b") == "user: b\n"
    assert asked[waits] == template.FIRST + 2
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_templates_are_rendered_in_one_place() -> None:
    """Jinja is imported by the program that the system bounds; transformers' own rendering is called nowhere."""
    root = Path(__file__).parents[2]
    found = set()
    for folder in ("playground", "training", "eval"):
        for file in (root / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if not any(word in text for word in ("jinja2", *OTHERS)):
                continue
            for node in ast.walk(ast.parse(text)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                asks = isinstance(node, ast.Attribute) and node.attr in OTHERS
                if asks or any(name.split(".")[0] == "jinja2" for name in names):
                    found.add(file.relative_to(root).as_posix())
    assert found == {"playground/template_child.py", "training/demo/measure.py"}  # the latter: Madang's own model
