"""Answers as a reader meets them: drawn part by part while they come, with code, tables, tasks and formulas."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.planted import Handler, Planted, chat, serving

from .conftest import Open, served_tabs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FIRST = """## Head

A **bold** word, $x^2$ and \\(y\\), H<sub>2</sub>O, <img src=x onerror=window.ran=1>

- [x] done
- [ ] open

| a | b |
|---|---|
| """
FIRST += "wideword" * 40
FIRST += """ | 2 |

$$
\\frac{a}{b}
$$

```python
def f(x):
    return "s"  # why
```

The **end of"""
REST = " it** is here"
MARK = "document.querySelectorAll('#pane-0 .live .answer > *').forEach(one => { one.kept = true; })"
KEPT = "[...document.querySelectorAll('#pane-0 .live .answer > *')].filter(one => !one.kept).length"


class Halves:
    """An answer whose second half waits until the test has looked at the first."""

    def __init__(self) -> None:
        self.looked = threading.Event()

    def __call__(self, handler: Handler, body: dict[str, Any]) -> None:
        handler.begin()
        handler.event(chat(FIRST))
        assert self.looked.wait(30)
        handler.event(chat(REST))
        handler.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        handler.event("[DONE]")
        handler.send(b"")
        handler.close_connection = True


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    """A server that answers in halves."""
    with serving() as planted:
        yield planted


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, planted: Planted) -> Iterator[str]:
    """A page over that server alone."""
    names = ("smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M")
    where = f'kind = "remote"\nurl = "{planted.url}"\nmodel = "there"\n'
    rows = "".join(f'[[variant]]\nname = "{name}"\n{where}' for name in names)
    with served_tabs(tmp_path_factory.mktemp("answers"), rows, lambda settings: []) as address:
        yield address


def one_pane(page: "Page") -> None:
    for left in (2, 1):
        page.locator("#variants .token .token-remove").last.click()
        page.wait_for_function("n => document.querySelectorAll('#variants .token').length === n", arg=left)


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_an_answer_is_drawn_part_by_part(visit: Open, planted: Planted, outside: list[str], locale: str) -> None:
    answer = Halves()
    planted.replies = [answer]
    page = visit(locale=locale, width=1024)
    one_pane(page)
    page.fill("#ask textarea", "Tell me")
    page.press("#ask textarea", "Enter")
    page.wait_for_selector("#pane-0 .live .answer.under-way strong >> text=end of")
    assert "**" not in page.inner_text("#pane-0 .live .answer")
    page.wait_for_selector("#pane-0 .live .math.display .katex")
    assert page.locator("#pane-0 .live .katex").count() == 3
    assert page.inner_text("#pane-0 .live .hk >> nth=0") == "def"
    assert page.locator("#pane-0 .live li.task").all_inner_texts() == ["☑ done", "☐ open"]
    wide = "e => e.scrollWidth > e.clientWidth"
    assert page.eval_on_selector("#pane-0 .live .wide", wide)
    assert not page.eval_on_selector("#pane-0 .scroll", wide)
    assert page.text_content("#pane-0 .live [role=status].unseen") == ""
    page.wait_for_function("parseInt(document.querySelector('#pane-0 .live .runs').innerText) >= 2")  # nothing came
    page.evaluate(MARK)
    answer.looked.set()
    page.wait_for_selector("#pane-0 .live .answer.done strong >> text=end of it")
    said = {"en-US": "smollm2 has answered.", "ko-KR": "smollm2의 답변이 끝났습니다."}[locale]
    assert page.inner_text("#pane-0 .live [role=status].unseen") == said
    assert page.locator("#pane-0 .live .answer > *:not(div), #pane-0 .live .answer > [class]").count() == 0
    assert page.evaluate(KEPT) == 0  # no part was made anew
    assert page.evaluate("window.ran === undefined")
    assert page.locator("#pane-0 .live img").count() == 0
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.taken = text; }")
    page.click("#pane-0 .live .code .copy")
    page.wait_for_function("window.taken !== undefined")
    assert page.evaluate("window.taken") == 'def f(x):\n    return "s"  # why\n'
    assert outside == []
