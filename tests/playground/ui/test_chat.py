"""The chat's handlers over real workers with the fake backend: no server, no browser."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from playground.catalogue import variants
from playground.catalogue.variants import Base
from playground.conversations.turns import Chat
from playground.page.events import Updates
from playground.page.words import examples, words
from playground.settings import Settings
from playground.ui import chat
from playground.ui.desk import Desk

NAMES = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M"]


def values(desk: Desk, text: str = "", talk: Chat | None = None, picked: list[str] | None = None) -> dict[Any, Any]:
    """What Gradio would hand over."""
    view = desk.view
    knobs = {slider: slider.value for slider in view.controls.sliders.values()}
    rest: dict[Any, Any] = {view.controls.seed: 7, view.controls.stop: [], view.controls.system: ""}
    rest |= {view.controls.thinking.mode: "default", view.controls.thinking.budget: None}
    rest |= {view.lock: True, view.shown: []} | {field: None for slot in view.slots for field in slot.own.fields}
    rest |= {view.history.key: "", view.history.wanted: ""}
    return {view.chat: talk or Chat(), view.picker: NAMES if picked is None else picked, view.text: text} | knobs | rest


def run(updates: Iterator[Updates]) -> tuple[dict[Any, Any], list[Updates]]:
    """The page once all updates are in, and the updates one by one."""
    seen = list(updates)
    return {component: value for update in seen for component, value in update.items()}, seen


def answers(talk: Chat) -> dict[str, str]:
    return {name: answer.text for name, answer in talk.turns[-1].answers.items()}


def test_every_pane_gets_its_own_answer(desk: Desk) -> None:
    page, seen = run(chat.send(desk, values(desk, "Hello"), "me"))
    talk = page[desk.view.chat]
    assert all(answers(talk)[name].startswith(f"{name} heard: Hello") for name in NAMES)
    for name, slot in zip(NAMES, desk.view.slots, strict=False):
        assert f"{name} heard: Hello" in page[slot.live]
        assert "user: Hello" in page[slot.prompt]
        assert "fake" in page[slot.head]
    assert seen[0][desk.view.text] == ""
    assert seen[0][desk.view.stop]["visible"]
    assert not page[desk.view.stop]["visible"]
    assert not desk.running.busy("me")


def test_a_second_question_brings_the_first_along(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "one"), "me"))
    page, _ = run(chat.send(desk, values(desk, "two", page[desk.view.chat]), "me"))
    assert "user: one" in page[desk.view.slots[0].prompt]
    assert "assistant: smollm2 heard: one" in page[desk.view.slots[0].prompt]


def test_only_panes_that_changed_are_sent(desk: Desk) -> None:
    run(chat.send(desk, values(desk, "warm"), "me"))
    _, seen = run(chat.send(desk, values(desk, "!slow words to wait for"), "me"))
    streaming = [update for update in seen[1:] if not update.keys() & {desk.view.chat, desk.view.stop}]
    assert streaming
    assert all(desk.view.slots[3].live not in update for update in seen[1:])
    assert all(desk.view.text not in update and desk.view.picker not in update for update in streaming)
    assert all(slot.log not in update for update in streaming for slot in desk.view.slots)


def test_stop_keeps_what_was_said_and_comes_soon(desk: Desk) -> None:
    run(chat.send(desk, values(desk, "warm"), "me"))
    page: dict[Any, Any] = {}
    stopped_at = 0.0
    for update in chat.send(desk, values(desk, "!slow !long"), "me"):
        page |= update
        if not stopped_at and all("heard" in str(page.get(slot.live)) for slot in desk.view.slots[:3]):
            chat.stop(desk, values(desk), "me")
            stopped_at = time.monotonic()
    assert time.monotonic() - stopped_at < 10
    assert all("heard" in text for text in answers(page[desk.view.chat]).values())
    assert words("en")["answer.stopped"] in page[desk.view.slots[0].live]


def test_stop_by_another_session_changes_nothing(desk: Desk) -> None:
    asked = chat.send(desk, values(desk, "!slow mine"), "me")
    next(asked)
    chat.stop(desk, values(desk), "you")
    page, _ = run(asked)
    assert answers(page[desk.view.chat])["smollm2"].startswith("smollm2 heard: !slow mine")


def test_clear_silences_what_still_runs(desk: Desk) -> None:
    asked = chat.send(desk, values(desk, "!slow !long"), "me")
    first = next(asked)
    cleared = chat.clear(desk, values(desk, talk=first[desk.view.chat]), "me")
    assert cleared[desk.view.chat] == Chat()
    assert list(asked) == []
    assert not desk.running.busy("me")


def test_undo_takes_the_turn_back_into_the_box(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "one"), "me"))
    page, _ = run(chat.send(desk, values(desk, "two", page[desk.view.chat]), "me"))
    undone = chat.undo(desk, values(desk, "", page[desk.view.chat]), "me")
    assert undone[desk.view.text] == "two"
    assert [turn.question for turn in undone[desk.view.chat].turns] == ["one"]
    assert desk.view.text not in chat.undo(desk, values(desk), "me")


def test_retry_asks_again_in_the_panes_that_are_open_now(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "one", picked=NAMES[:1]), "me"))
    page, _ = run(chat.retry(desk, values(desk, "kept", page[desk.view.chat]), "me"))
    talk = page[desk.view.chat]
    assert len(talk.turns) == 1
    assert set(answers(talk)) == set(NAMES)
    assert list(chat.retry(desk, values(desk), "me")) == []


def test_a_question_sent_while_answers_run_waits_its_turn(desk: Desk) -> None:
    view = desk.view
    asked = chat.send(desk, values(desk, "!slow one"), "me")
    first = next(asked)
    for question in ("two", "three", "four"):
        page, _ = run(chat.send(desk, values(desk, question) | {view.controls.seed: 41}, "me"))
        assert set(page) == {view.notice, view.waiting, view.text}  # nothing else is touched
        assert (question in page[view.waiting], page[view.text]) == (True, "")
    key = desk.running.waiting("me")[1].key
    taken = chat.take_back(desk, values(desk, "half typed"), "me", key)
    assert taken[view.text] == "three\nhalf typed"
    assert "three" not in taken[view.waiting]
    assert view.text not in chat.take_back(desk, values(desk), "me", key)
    assert chat.settled(desk, values(desk), "me")[view.stop]["visible"]
    page, seen = run(asked)
    talk = page[view.chat]
    assert [turn.question for turn in talk.turns] == ["!slow one", "two", "four"]
    assert talk.turns[1].answers["smollm2"].started.seed == 41  # as the form stood when it was sent
    assert all(answer.end for turn in talk.turns for answer in turn.answers.values())
    assert first[view.text] == ""
    assert all(view.text not in update for update in seen)  # what is typed meanwhile stays
    assert page[view.waiting] == ""
    assert not page[view.stop]["visible"]
    assert not desk.running.busy("me")


def test_stop_and_undo_give_back_what_waits_and_clear_forgets_it(desk: Desk) -> None:
    for end in (chat.stop, chat.undo, chat.clear):
        asked = chat.send(desk, values(desk, "!slow !long one"), "me")
        talk = next(asked)[desk.view.chat]
        run(chat.send(desk, values(desk, "two"), "me"))
        page = end(desk, values(desk, "half", talk), "me")
        assert page[desk.view.waiting] == ""
        back = {chat.stop: "two\nhalf", chat.undo: "!slow !long one\ntwo\nhalf"}.get(end)
        assert page.get(desk.view.text) == back
        rest, _ = run(asked)
        assert "two" not in str(rest.get(desk.view.chat))
        assert not desk.running.busy("me")


def test_more_than_a_few_do_not_wait(desk: Desk) -> None:
    asked = chat.send(desk, values(desk, "!slow !long one"), "me")
    next(asked)
    for number in range(chat.MOST_WAITING):
        run(chat.send(desk, values(desk, f"question {number}"), "me"))
    page, _ = run(chat.send(desk, values(desk, "one more"), "me"))
    assert set(page) == {desk.view.notice}
    assert words("en")["problem.many_wait_hint"] in page[desk.view.notice]
    chat.clear(desk, values(desk), "me")
    assert list(asked) == []


def test_one_that_waited_and_cannot_be_asked_lets_the_next_have_its_turn(desk: Desk) -> None:
    asked = chat.send(desk, values(desk, "!slow one"), "me")
    next(asked)
    run(chat.send(desk, values(desk, "two", picked=["gone"]), "me"))
    run(chat.send(desk, values(desk, "three"), "me"))
    page, seen = run(asked)
    assert any("gone" in str(update.get(desk.view.notice)) for update in seen)
    assert [turn.question for turn in page[desk.view.chat].turns] == ["!slow one", "three"]


def test_what_was_dropped_in_mid_answer_is_drawn_without_it_once_its_last_words_have_come(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "one"), "me"))
    asked = chat.send(desk, values(desk, "!slow !long two", page[desk.view.chat]), "me")
    talk = next(asked)[desk.view.chat]
    chat.undo(desk, values(desk, talk=talk), "me")
    assert list(asked) == []
    after = chat.settled(desk, values(desk, talk=talk), "me")
    assert [turn.question for turn in after[desk.view.chat].turns] == ["one"]
    assert "two" not in after[desk.view.slots[0].live]
    assert desk.view.slots[0].live not in chat.settled(desk, values(desk), "me")


def test_an_example_is_one_tap(desk: Desk) -> None:
    page, _ = run(chat.example(desk, values(desk), "me", 0))
    assert page[desk.view.chat].turns[0].question == examples()[0]


@pytest.mark.parametrize(
    ("text", "picked", "problem"),
    [("Hi", [], "no_variant"), ("  \n", None, "no_text"), ("x" * 200_001, None, "too_long")],
)
def test_what_cannot_be_asked_says_why(desk: Desk, text: str, picked: list[str] | None, problem: str) -> None:
    page, _ = run(chat.send(desk, values(desk, text, picked=picked), "me"))
    assert set(page) == {desk.view.notice}
    assert words("en")[f"problem.{problem}"].split("{")[0] in page[desk.view.notice]


def test_a_long_question_costs_its_panes_an_error_and_nothing_else(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "long " * 2000), "me"))
    assert 'role="alert"' in page[desk.view.slots[0].live]


def test_a_variant_that_left_the_catalogue_is_said(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "Hi", picked=["gone"]), "me"))
    assert "gone" in page[desk.view.notice]
    fresh = chat.refresh(desk, values(desk, picked=["gone", "smollm2"]), "me")
    assert fresh[desk.view.picker]["value"] == ["smollm2"]


def test_one_pane_fails_and_the_others_go_on(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "Hi", picked=["smollm2", "broken"]), "me"))
    talk = page[desk.view.chat]
    assert answers(talk)["smollm2"].startswith("smollm2 heard")
    assert 'role="alert"' in page[desk.view.slots[1].live]


def test_a_killed_worker_costs_its_pane_alone(desk: Desk) -> None:
    """kill -9 in the middle of an answer: an error with a hint there, an answer elsewhere, and a fresh worker next."""
    run(chat.send(desk, values(desk, "warm"), "me"))
    page: dict[Any, Any] = {}
    killed = False
    for update in chat.send(desk, values(desk, "!slow tell me a story that takes a while"), "me"):
        page |= update
        if not killed and "heard" in str(page.get(desk.view.slots[2].live)):
            victims = [worker for worker in workers(desk) if worker.spec.name == NAMES[2]]
            psutil.Process(victims[0].pid).kill()
            killed = True
    talk = page[desk.view.chat]
    assert "SIGKILL" in page[desk.view.slots[2].live]
    assert "hint" in page[desk.view.slots[2].live]
    assert answers(talk)["smollm2"].endswith(answers(talk)["smollm2:demo"].removeprefix("smollm2:demo heard"))
    page, _ = run(chat.send(desk, values(desk, "again", talk), "me"))
    assert answers(page[desk.view.chat])[NAMES[2]].startswith(f"{NAMES[2]} heard: again")


def workers(desk: Desk) -> list[Any]:
    return list(desk.playground.pool._workers.values())


def test_a_pane_that_joins_is_not_given_others_answers(desk: Desk) -> None:
    page, _ = run(chat.send(desk, values(desk, "one", picked=NAMES[:1]), "me"))
    talk = page[desk.view.chat]
    joined = chat.choose(desk, values(desk, talk=talk, picked=NAMES[:2]))
    assert "smollm2 heard" not in joined[desk.view.slots[1].live]
    page, _ = run(chat.send(desk, values(desk, "two", talk, NAMES[:2]), "me"))
    assert "one" not in page[desk.view.slots[1].prompt]
    assert "one" in page[desk.view.slots[0].prompt]


def test_four_panes_at_most(desk: Desk) -> None:
    five = ["smollm2", "smollm2:demo", "smollm2:demo:Q4_K_M", "broken", "hub"]
    page = chat.choose(desk, values(desk, picked=five))
    assert page[desk.view.picker] == five[:4]
    assert words("en")["problem.too_many"] in page[desk.view.notice]


def test_another_tabs_variant_is_chosen_and_of_four_the_last_makes_room(desk: Desk, settings: Settings) -> None:
    for name in ("new", "newer"):
        variants.add(settings, Base(name=name, source="fake:x"))
    updates = chat.pick(desk, values(desk), "me", "new")
    assert updates[desk.view.picker]["value"] == [*NAMES, "new"]
    assert updates[desk.view.slots[3].column]["visible"]
    assert "new" in updates[desk.view.slots[3].head]
    updates = chat.pick(desk, values(desk, picked=[*NAMES, "new"]), "me", "newer")
    assert updates[desk.view.picker]["value"] == [*NAMES, "newer"]
    assert chat.pick(desk, values(desk, picked=["new"]), "me", "new")[desk.view.picker]["value"] == ["new"]


def test_a_variant_that_is_asked_for_while_answers_come_or_has_gone_disturbs_nothing(
    desk: Desk, settings: Settings
) -> None:
    assert chat.pick(desk, values(desk), "me", "gone")[desk.view.picker]["value"] == NAMES
    asked = chat.send(desk, values(desk, "!slow one"), "me")
    first = next(asked)
    assert chat.pick(desk, values(desk, talk=first[desk.view.chat]), "me", NAMES[0]).keys() == {
        desk.view.picker,
        desk.view.facts,
    }
    run(asked)
    settings.catalogue.write_text("[[variant]", encoding="utf-8")
    assert chat.pick(desk, values(desk), "me", NAMES[0]).keys() == {desk.view.notice}


def test_a_new_variant_is_offered_without_a_restart(desk: Desk, settings: Settings) -> None:
    variants.add(settings, Base(name="new", source="fake:n"))
    assert "new" in chat.refresh(desk, values(desk), "me")[desk.view.picker]["choices"]


def test_a_refresh_leaves_panes_alone_that_are_being_written(desk: Desk) -> None:
    asked = chat.send(desk, values(desk, "!slow one"), "me")
    first = next(asked)
    assert set(chat.refresh(desk, values(desk, talk=first[desk.view.chat]), "me")) == {
        desk.view.picker,
        desk.view.facts,
    }
    run(asked)


def test_a_broken_catalogue_is_said_and_not_raised(desk: Desk, settings: Settings) -> None:
    settings.catalogue.write_text("[[variant", encoding="utf-8")
    for page in (chat.refresh(desk, values(desk), "me"), chat.choose(desk, values(desk))):
        assert 'role="alert"' in page[desk.view.notice]


def test_the_last_seed_can_be_used_again(desk: Desk) -> None:
    seed = desk.view.controls.seed
    page, _ = run(chat.send(desk, values(desk, "one") | {seed: None}, "me"))
    talk = page[desk.view.chat]
    used = chat.seed_again(desk, values(desk, talk=talk))[seed]
    again, _ = run(chat.retry(desk, values(desk, talk=talk) | {seed: used}, "me"))
    assert answers(again[desk.view.chat]) == answers(talk)


def test_sessions_do_not_mix(desk: Desk) -> None:
    pages: dict[str, dict[Any, Any]] = {}

    def ask(session: str) -> None:
        pages[session], _ = run(chat.send(desk, values(desk, f"!slow for {session}", picked=NAMES[:2]), session))

    threads = [threading.Thread(target=ask, args=(session,)) for session in ("me", "you")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in ("me", "you"):
        assert f"for {session}" in answers(pages[session][desk.view.chat])["smollm2"]
