"""Answers are never trusted."""

import pytest

from playground.page.markdown import markdown


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
