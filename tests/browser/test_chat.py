"""Chat as a visitor meets it: typing, watching, stopping, going back."""

import re
from typing import TYPE_CHECKING

import psutil
import pytest

from playground.compare import Playground
from playground.page.words import words
from playground.ui import chat
from playground.wording import Language
from playground.workers.process import WorkerProcess

from .conftest import Open, open_tab, reload

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

NAMES = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M"]


def ask(page: "Page", text: str) -> None:
    page.fill("#ask textarea", text)
    page.press("#ask textarea", "Enter")


def live(page: "Page", number: int) -> str:
    return page.inner_text(f"#pane-{number} .live >> nth=0")


def wait_text(page: "Page", selector: str, text: str) -> None:
    """Wait for a text: what one event changes reaches the page's elements one after another."""
    page.wait_for_function("([s, t]) => document.querySelector(s)?.innerText.includes(t)", arg=[selector, text])


def wait_value(page: "Page", text: str) -> None:
    page.wait_for_function("t => document.querySelector('#ask textarea').value === t", arg=text)


def wait_live(page: "Page", number: int, text: str) -> None:
    wait_text(page, f"#pane-{number} .live", text)


def wait_done(page: "Page") -> None:
    page.wait_for_selector("#send", state="visible")
    page.wait_for_selector("#stop", state="hidden")


def asked(page: "Page", text: str) -> None:
    ask(page, text)
    for number in range(3):
        wait_live(page, number, text)
    wait_done(page)


def test_one_can_type_at_once_and_three_answers_come(visit: Open) -> None:
    page = visit()
    assert page.evaluate("document.activeElement === document.querySelector('#ask textarea')")
    page.keyboard.type("Hello there")
    page.keyboard.press("Enter")
    for number, name in enumerate(NAMES):
        wait_live(page, number, f"{name} heard: Hello there")
    wait_done(page)
    for number in range(3):
        assert re.search(r"\d\.\d\d s\s+[\d,]+ tok/s\s+\d+ tokens\s+\d+ MB", live(page, number))
        assert page.inner_text(f"#pane-{number} .pane-dtype") == "fake"
    wait_value(page, "")
    page.click("#pane-0 .prompt summary")
    assert "user: Hello there" in page.inner_text("#pane-0 .prompt pre")


def test_answers_stream(visit: Open) -> None:
    page = visit()
    ask(page, "!slow a question that takes its time")
    page.wait_for_selector("#pane-0 .answer.under-way")
    early = page.inner_text("#pane-0 .answer")
    page.wait_for_function("n => document.querySelector('#pane-0 .answer').innerText.length > n", arg=len(early))
    wait_done(page)


def test_stop_keeps_what_was_said(visit: Open) -> None:
    page = visit()
    ask(page, "!slow !long tale")
    wait_live(page, 2, "heard")
    page.click("#stop")
    page.wait_for_selector("#send", state="visible")
    for number in range(3):
        wait_live(page, number, words("en")["answer.stopped"])
        assert NAMES[number] in page.inner_text(f"#pane-{number} .answer")


def test_escape_stops(visit: Open) -> None:
    page = visit()
    ask(page, "!slow !long tale")
    wait_live(page, 0, "heard")
    page.keyboard.press("Escape")
    page.wait_for_selector("#send", state="visible")
    wait_live(page, 0, words("en")["answer.stopped"])
    assert words("en")["answer.stopped"] in live(page, 0)


def test_shift_enter_breaks_the_line(visit: Open) -> None:
    page = visit()
    page.click("#ask textarea")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#ask textarea") == "one\ntwo"
    assert page.query_selector(".turn") is None
    page.keyboard.press("Enter")
    wait_live(page, 0, "one\ntwo")


def test_retry_undo_and_clear(visit: Open) -> None:
    page = visit()
    asked(page, "first")
    asked(page, "second")
    seed = page.inner_text("#pane-0 .live .stat-seed")
    page.click("#retry")
    page.wait_for_function(
        "s => { const e = document.querySelector('#pane-0 .live .stat-seed'); return e && e.innerText !== s }", arg=seed
    )
    wait_done(page)
    assert page.locator("#pane-0 .turn").count() == 2
    page.click("#undo")
    page.wait_for_function("document.querySelectorAll('#pane-0 .turn').length === 1")
    wait_value(page, "second")
    page.click("#clear")
    page.wait_for_selector("#pane-0 .empty")
    page.wait_for_selector("#examples", state="visible")


def test_a_crash_costs_its_pane_alone(visit: Open, playground: Playground) -> None:
    page = visit()
    asked(page, "warm")
    ask(page, "!slow a tale of three models and one sudden end")
    page.wait_for_selector("#pane-2 .answer.under-way")
    workers = [worker for spec, worker in playground.pool._workers.items() if spec.name == NAMES[2]]
    (worker,) = workers
    assert isinstance(worker, WorkerProcess)
    psutil.Process(worker.pid).kill()
    page.wait_for_selector("#pane-2 .card")
    assert "SIGKILL" in page.inner_text("#pane-2 .card")
    wait_done(page)
    for number in range(2):
        assert "one sudden end" in page.inner_text(f"#pane-{number} .live .answer")
    asked(page, "again")
    assert f"{NAMES[2]} heard: again" in live(page, 2)


def test_the_language_switches_and_nothing_is_lost(visit: Open) -> None:
    page = visit("en-US")
    asked(page, "first")
    page.fill("#ask textarea", "half a question")
    page.click("[data-language=ko] >> visible=true")
    for selector, key in {"#send": "chat.send", "#tab-chat-button": "tab.chat", "#pane-0 .badge": "kind.base"}.items():
        wait_text(page, selector, words("ko")[key])
    page.wait_for_selector(f"#ask textarea[placeholder='{words('ko')['chat.ask']}']")
    assert page.input_value("#ask textarea") == "half a question"
    assert "first" in live(page, 0)
    page.reload()
    wait_text(page, "#send", words("ko")["chat.send"])


@pytest.mark.parametrize(("locale", "language"), [("ko-KR", "ko"), ("en-GB", "en"), ("fr-FR", "en")])
def test_the_browsers_language_comes_first(visit: Open, locale: str, language: Language) -> None:
    page = visit(locale)
    assert page.inner_text("#send") == words(language)["chat.send"]
    assert page.inner_text("#preset label >> nth=0") == words(language)["preset.factual"]
    assert words(language)["chat.empty_todo"] in live(page, 0)
    other: Language = "en" if language == "ko" else "ko"
    assert words(other)["chat.empty_todo"] not in page.inner_text("body")


def test_light_and_dark(visit: Open) -> None:
    def paper(page: "Page") -> str:
        color: str = page.evaluate("getComputedStyle(document.querySelector('.pane')).backgroundColor")
        return color

    page, night = visit(), visit(dark=True)
    light = paper(page)
    assert paper(night) != light
    page.click(".theme")
    assert paper(page) == paper(night)
    page.reload()
    page.wait_for_selector("#pane-0 .empty")
    assert paper(page) == paper(night)


@pytest.mark.parametrize("locale", ["ko-KR", "en-US"])
def test_a_phone_never_scrolls_sideways(visit: Open, locale: str) -> None:
    page = visit(locale, width=390, height=844)
    asked(page, "a-very-long-word-" * 20)
    page.click("#settings-toggle")
    page.wait_for_selector("#seed", state="visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    hidden = "[...document.querySelectorAll('.pane .scroll')].some(e => e.scrollWidth > e.clientWidth)"
    assert not page.evaluate(hidden)
    box = page.locator("#ask").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    page.keyboard.press("Escape")  # the settings cover a phone
    tops = [page.locator(f"#pane-{number}").bounding_box() for number in range(3)]
    assert all(box is not None and box["width"] > 340 for box in tops)
    page.click("#tab-models-button")
    page.wait_for_selector("#catalogue tbody tr")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_on_a_phone_every_pane_can_be_reached(visit: Open) -> None:
    page = visit(width=390, height=844)
    asked(page, ", ".join(["a long word or two"] * 18))
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    last, composer = page.locator("#pane-2").bounding_box(), page.locator("#composer").bounding_box()
    assert last is not None
    assert composer is not None
    assert 0 < last["y"] + last["height"] <= composer["y"]


def test_four_panes_fit_a_desktop(visit: Open) -> None:
    page = visit()
    page.click("#variants input")
    page.locator("[role=option]", has_text="another-one").click()
    page.wait_for_selector("#pane-3", state="visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    assert page.evaluate("document.documentElement.scrollHeight") <= 900
    widths = {round(page.locator(f"#pane-{number}").bounding_box()["width"]) for number in range(4)}  # type: ignore[index]
    assert len(widths) == 1


def test_an_example_asks_and_a_preset_sets_the_sliders(visit: Open) -> None:
    page = visit()
    page.click("#settings-toggle")
    page.click("#preset label >> nth=2")
    page.wait_for_function("document.querySelector('#set-temperature input').value === '0.8'")
    page.click("#example-2")
    wait_live(page, 2, "하늘은 왜 파란가요?")
    wait_done(page)
    page.fill("#set-temperature input[type=number]", "0.33")
    page.press("#set-temperature input[type=number]", "Tab")
    page.wait_for_function("!document.querySelector('#preset label.selected')")


def test_nothing_is_asked_of_anybody_else(visit: Open, outside: list[str]) -> None:
    page = visit()
    asked(page, "![x](https://example.org/pixel.png)")
    page.click("#tab-models-button")
    page.wait_for_selector("#catalogue tbody tr")
    assert outside == []


def test_what_a_model_says_is_never_run(visit: Open) -> None:
    page = visit()
    asked(page, "<img src=x onerror=\"document.title='run'\"> ${document.title='run'} {{x}}")
    assert page.title() == "마당 Madang"
    assert page.locator("#pane-0 .answer img").count() == 0


def test_sessions_do_not_mix(visit: Open) -> None:
    me, you = visit(), visit()
    ask(me, "!slow !long mine alone")
    me.wait_for_selector("#pane-0 .answer.under-way")
    asked(you, "yours")
    you.click("#clear")
    you.wait_for_selector("#pane-0 .empty")
    assert "mine" not in you.inner_text("#panes")
    assert me.is_visible("#stop")  # a long answer of mine never held yours up, nor did your clear end it
    me.keyboard.press("Escape")
    wait_done(me)
    assert "yours" not in me.inner_text("#panes")


def test_empty_and_too_many_are_said(visit: Open) -> None:
    page = visit()
    page.press("#ask textarea", "Enter")
    page.wait_for_selector("#notice .card")
    wait_text(page, "#notice", words("en")["problem.no_text"])
    assert words("en")["problem.no_text"] in page.inner_text("#notice")
    for left in (2, 1, 0):
        page.click("#variants .token-remove >> nth=0")
        page.wait_for_selector(f"#pane-{left}", state="hidden")  # a click before the page has heard of it is lost
    ask(page, "anybody?")
    wait_text(page, "#notice", words("en")["problem.no_variant"])


def test_thoughts_are_folded_and_stay_open_once_opened(visit: Open) -> None:
    page = visit()
    asked(page, "!think !slow hello")
    folded = page.locator("#pane-0 .live details.thought")
    assert not folded.evaluate("box => box.open")
    assert "They said" not in live(page, 0)
    folded.locator("summary").click()
    wait_live(page, 0, "They said: !think !slow hello")


@pytest.mark.parametrize("first", ["example", "retry", "send"])
@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
def test_a_question_that_is_sent_while_answers_run_waits_its_turn(
    visit: Open, monkeypatch: pytest.MonkeyPatch, first: str, locale: str
) -> None:
    page = visit(locale)
    if first == "retry":
        asked(page, "!slow one")
        page.click("#retry")
    elif first == "example":
        monkeypatch.setattr(chat, "examples", lambda: ["!slow one"] * 3)
        page.click("#example-2")
    else:
        ask(page, "!slow one")
    page.wait_for_selector("#stop", state="visible")
    ask(page, "!slow two")
    wait_value(page, "")
    ask(page, "three")
    wait_value(page, "")
    wait_live(page, 0, "heard: three")
    wait_done(page)
    page.wait_for_selector("#waiting li", state="detached")
    for number, name in enumerate(NAMES):
        wait_live(page, number, f"{name} heard: three")
        wait_text(page, f"#pane-{number} .log", f"{name} heard: !slow two")
    assert page.locator("#pane-0 .turn").count() == 3
    assert page.inner_text("#retry") == words("ko" if locale == "ko-KR" else "en")["chat.retry"]


def test_what_waits_is_seen_and_taken_back(visit: Open) -> None:
    page = visit(width=390, height=844)
    ask(page, "!slow !long tale")
    wait_live(page, 0, "heard")
    ask(page, "the next one")
    wait_text(page, "#waiting", "the next one")
    wait_value(page, "")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#waiting button")
    page.wait_for_selector("#waiting li", state="detached")
    wait_value(page, "the next one")
    page.press("#ask textarea", "Enter")
    wait_text(page, "#waiting", "the next one")
    page.click("#stop")
    wait_value(page, "the next one")
    wait_done(page)
    assert page.locator("#pane-0 .turn").count() == 1


def test_undo_during_an_answer_leaves_nothing_of_it(visit: Open) -> None:
    page = visit()
    asked(page, "one")
    ask(page, "!slow !long two")
    page.wait_for_selector("#pane-0 .answer.under-way")
    with page.expect_response(lambda answer: "/queue/" not in answer.url and answer.request.method == "POST"):
        page.click("#undo")
    wait_value(page, "!slow !long two")
    wait_done(page)
    page.wait_for_selector(".answer.under-way", state="detached")
    assert "heard: one" in live(page, 0)
    asked(page, "three")
    assert page.locator("#pane-0 .turn").count() == 2


def test_clearing_the_choice_closes_the_panes_and_a_fifth_is_refused_in_words(visit: Open) -> None:
    page = visit()
    page.click("#variants .token-remove.remove-all")
    page.wait_for_selector("#pane-0", state="hidden")
    wait_text(page, "#notice", words("en")["problem.no_variant"])
    for number in range(4):
        page.click("#variants input")
        page.locator("[role=option]").nth(number).click()
        page.wait_for_selector(f"#pane-{number}", state="visible")
    page.click("#variants input")
    page.locator("[role=option]").nth(4).click()
    wait_text(page, "#notice", words("en")["problem.too_many"])
    page.wait_for_function("document.querySelectorAll('#variants .token').length === 4")


def test_a_language_that_is_not_the_browsers_own_costs_no_error(visit: Open) -> None:
    page = visit("en-US")
    page.click("[data-language=ko] >> visible=true")
    wait_text(page, "#send", words("ko")["chat.send"])
    reload(page)
    wait_text(page, "#send", words("ko")["chat.send"])
    open_tab(page, "models", "catalogue")
    open_tab(page, "chat", "pane-0")
    asked(page, "still there?")  # and no answer of 500 on the way: `visit` looks
