"""What is sent of an answer as it grows."""

from typing import Any

from gradio.utils import diff

from playground.page.drawing import pieces
from playground.page.look import katex
from playground.page.markdown import BEGIN, END, markdown, marked

TEXT = (
    "# Head\n\n" + "A paragraph of **words**.\n\n" * 300 + "```python\nx = 1\n```\n\nThe end of it is here, and more."
)


def html(text: str) -> str:
    return f'<article><p>?</p><div class="answer" data-parts>{marked(text, grows=True)}</div></article>'


def test_what_grows_is_sent_and_nothing_else() -> None:
    before, after = (pieces(html(TEXT[:end])) for end in (-12, -11))
    sent: Any = diff(before, after)  # type: ignore[no-untyped-call]
    assert sent == [["append", [1, len(after[1]) - 1], TEXT[-12]]]
    assert before[0] == after[0] == '<article><p>?</p><div class="answer" data-parts></div></article>'


def test_nobody_makes_parts_by_writing_their_marks() -> None:
    said = f"a{BEGIN}b{END}c data-parts>{BEGIN}<b"
    around, parts = pieces(f"<div data-parts>{marked(said)}</div>")
    assert around == "<div data-parts></div>"
    assert parts == [markdown(said)]
    assert BEGIN not in parts[0] + around
    assert END not in parts[0] + around


def test_formulas_are_set_by_files_that_gradio_serves() -> None:
    found = katex()
    assert found is not None
    assert found["script"].startswith("assets/katex-")
    assert found["style"].endswith(".css")
