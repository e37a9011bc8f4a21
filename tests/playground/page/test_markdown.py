"""Answers are never trusted."""

import pytest

from playground.page.markdown import markdown, parts


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a <img src=x onerror=alert(1)>", "<div onclick=x>", "`<b>`", "```\n<b>\n```"]
)
def test_html_is_shown_as_text(text: str) -> None:
    shown = markdown(text)
    assert "&lt;" in shown
    assert not any(tag in shown for tag in ("<script", "<img", "<div o", "<b>"))


def test_images_are_not_fetched() -> None:
    assert "<img" not in markdown("![look](https://example.org/pixel.png)")


def test_links_run_nothing_and_leave_the_page_alone() -> None:
    assert "href" not in markdown("[x](javascript:alert(1))")
    assert 'target="_blank" rel="noopener noreferrer nofollow"' in markdown("[x](https://example.org)")


def test_markdown_is_rendered() -> None:
    shown = markdown("**bold**\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert all(tag in shown for tag in ("<strong>bold", "<li>one", "<table>"))


def test_an_open_fence_is_code_already() -> None:
    assert "<code><span" in markdown("```py\nprint(1)")


def test_prices_are_no_formulas() -> None:
    assert "math" not in markdown("It costs $5 or $10, and ₩300.")
    assert '<span class="math">x_1</span>' in markdown("so $x_1$ is")
    assert '<div class="math display">a &lt; b</div>' in markdown("\\[\na < b\n\\]")


def test_only_bare_tags_that_change_letters_are_tags() -> None:
    assert "<sub>2</sub>" in markdown("H<sub>2</sub>O")
    assert "&lt;b onclick" in markdown("<b onclick=alert(1)>x</b>")
    assert markdown("</b>a<b>c").count("<b>") == markdown("</b>a<b>c").count("</b>") == 1
    assert "&lt;details" in markdown("<details>x</details>")


def test_bold_ends_beside_a_hangul_particle() -> None:
    assert "<strong>마당(Madang)</strong>은" in markdown("**마당(Madang)**은 넓다")


def test_code_is_coloured_where_its_language_is_known() -> None:
    assert '<span class="hk">def</span>' in markdown("```python\ndef f(): pass\n```")
    assert "<span class=" not in markdown("```no-such-language\ndef f(): pass\n```")
    assert "&lt;b&gt;" in markdown("```html\n<b>x</b>\n```").replace("</span>", "").replace('<span class="hk">', "")


def test_a_list_as_long_as_a_book_is_drawn_piece_by_piece() -> None:
    shown = parts("".join(f"{number}. item\n" for number in range(1, 2001)))
    assert len(shown) > 3
    assert '<ol start="' in shown[1]
