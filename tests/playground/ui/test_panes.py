"""What a pane shows, as HTML."""

import re

import pytest

from playground.catalogue.variants import Adapter, Base, Gguf
from playground.conversations.turns import Chat
from playground.events import Delta, Event, Failed, Finished, FinishReason, Progress, Started, Stats
from playground.page.number import size
from playground.page.words import words
from playground.ui import panes

BASE = Base(name="a", source="fake:a")


def finished(reason: FinishReason = "stop", text: str = "Hi **there**") -> Finished:
    stats = Stats(
        prompt_tokens=9, tokens=84, first_token_s=0.214, tokens_per_s=21.6, memory_bytes=512 * 2**20, dtype="bf16"
    )
    return Finished(variant="a", reason=reason, text=text, stats=stats)


def started(dropped: int = 0) -> Started:
    return Started(
        variant="a", prompt="<|user|>Q", prompt_tokens=9, dropped_turns=dropped, seed=7, dtype="bf16", device="cpu"
    )


def live(*events: Event) -> str:
    return panes.live(Chat().ask("Q <b>?", ["a"]).hear(list(events)), BASE)


def seen(html: str) -> str:
    """The text of some HTML, English alone."""
    return re.sub(r"<[^>]+>", "", re.sub(r'<span class="say-ko".*?</span>', "", html))


def test_a_finished_answer_has_its_numbers() -> None:
    shown = seen(live(started(), finished()))
    for number in ("0.21 s", "22 tok/s", "84 tokens", "512 MB", "bf16", "seed 7"):
        assert number in shown


def test_the_question_is_escaped_and_the_answer_can_be_copied() -> None:
    shown = live(started(), finished())
    assert "Q &lt;b&gt;?" in shown
    assert 'data-copy="Hi **there**"' in shown
    assert "<strong>there</strong>" in shown


@pytest.mark.parametrize(("reason", "key"), [("length", "answer.cut"), ("cancelled", "answer.stopped")])
def test_how_it_ended_is_said(reason: FinishReason, key: str) -> None:
    assert words("en")[key] in seen(live(finished(reason)))


def test_older_turns_left_out_are_said() -> None:
    assert "first 2 were left out" in seen(live(started(dropped=2), Delta(variant="a", text="x")))
    assert "left out" not in seen(live(started(), Delta(variant="a", text="x")))


def test_a_failure_is_a_card_with_message_and_hint() -> None:
    shown = live(Failed(variant="a", message="It broke <here>.", hint="Do that."))
    assert 'role="alert"' in shown
    assert "It broke &lt;here&gt;." in shown
    assert "Do that." in shown
    assert words("en")["problem.failed"] in shown
    assert words("en")["problem.broke"] in live(Delta(variant="a", text="Hal"), Failed(variant="a", message="x"))


@pytest.mark.parametrize("step", ["queued", "downloading", "loading", "reading"])
def test_every_step_before_the_first_token_is_named(step: str) -> None:
    progress = Progress.model_validate({"variant": "a", "step": step, "fraction": 0.25, "detail": "x.gguf"})
    shown = live(progress)
    assert 'style="width: 25.0%"' in shown
    assert words("en")[f"answer.{step}"].split("{")[0].strip(": ") in seen(shown)


def test_once_it_has_its_prompt_it_reads() -> None:
    assert words("en")["answer.reading"] in seen(live(Progress(variant="a", step="loading"), started()))


def test_no_share_is_an_endless_bar() -> None:
    assert "endless" in live(Progress(variant="a", step="loading"))
    assert "endless" in live()


def test_an_empty_pane_says_what_to_do() -> None:
    todo = words("en")["chat.empty_todo"]
    for variant in (BASE, Adapter(name="b", base="a", source="fake:b"), Gguf(name="c", source="fake:c")):
        assert todo in seen(panes.live(Chat(), variant))


def test_an_empty_answer_is_said() -> None:
    assert words("en")["answer.silent"] in seen(live(finished(text="")))


def test_a_late_pane_says_what_it_missed() -> None:
    chat = Chat().ask("one", ["a"]).hear([finished()])
    assert "Not asked this one" in seen(panes.live(chat, Base(name="b", source="fake:b")))
    chat = chat.ask("two", ["a", "b"])
    assert "1 earlier question" in seen(panes.log(chat, "b"))
    assert "one" in panes.log(chat, "a")


def test_the_exact_prompt_is_shown_escaped() -> None:
    shown = panes.prompt(Chat().ask("Q", ["a"]).hear([started()]), "a")
    assert "&lt;|user|&gt;Q" in shown
    assert panes.prompt(Chat().ask("Q", ["a"]), "a") == ""


def test_head_names_kind_and_dtype() -> None:
    shown = panes.head(BASE, "bf16")
    assert all(part in shown for part in ("<h3", "badge-base", "bf16"))


@pytest.mark.parametrize(("count", "text"), [(2**30 * 3 // 2, "1.5 GB"), (2**20 * 98, "98 MB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_what_nobody_counted_is_not_called_tokens() -> None:
    end = finished()
    uncounted = end.model_copy(update={"stats": end.stats.model_copy(update={"counted": False, "reasoning_tokens": 3})})
    shown = seen(live(started(), uncounted.model_copy(update={"reasoning": "Hm."})))
    assert "84 parts of text" in shown
    assert "22 parts/s" in shown
    assert "tok" not in shown


def test_numbers_run_with_an_answer_and_give_way_to_the_last_ones() -> None:
    chat = Chat().ask("Q", ["a"]).hear([started(), Delta(variant="a", text="x", made=3)])
    chat = chat.hear([Delta(variant="a", text="y", made=23)])
    turn = chat.turns[-1]
    answer = turn.answers["a"]
    assert (answer.first, answer.made) == (3, 23)
    earlier = answer.model_copy(update={"since": answer.since - 1_000_000})  # a million seconds for twenty tokens
    early = turn.model_copy(update={"at": turn.at - 1_000_000, "answers": {"a": earlier}})
    shown = seen(panes.live(chat.with_turn(early), BASE))
    assert "1000000 s" in shown
    assert "0.0 tok/s23 tokens" in shown
    ended = live(started(), Delta(variant="a", text="x", made=3), finished())
    assert "data-runs" not in ended


def test_what_nobody_counts_has_no_speed_before_the_end() -> None:
    shown = live(started(), Delta(variant="a", text="x"), Delta(variant="a", text="y"))
    assert "data-runs" in shown
    assert "tok/s" not in shown


def test_memory_that_is_shared_says_so() -> None:
    end = finished()
    shared = end.model_copy(update={"stats": end.stats.model_copy(update={"shared": True})})
    assert "512 MB shared" in seen(live(started(), shared))
    assert "shared" not in seen(live(started(), end)).replace("which is shared", "")


def test_the_end_of_an_answer_is_told_to_screen_readers_once_it_is_there() -> None:
    assert '<p class="unseen" role="status"></p>' in live(started(), Delta(variant="a", text="x"))
    assert "a has answered." in seen(live(started(), finished()))
