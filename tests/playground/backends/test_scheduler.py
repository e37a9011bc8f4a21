"""Rows join, wait, leave and end: the scheduler over a backend whose answers are known."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from playground.backends.fake import FakeBackend
from playground.backends.scheduler import Scheduler
from playground.errors import VariantError
from playground.events import Delta, Event, Failed, Finished, Progress, Started, TokenLogprob
from playground.messages import Conversation, Message
from playground.presets import Sampling
from playground.protocol import ModelSpec, RowRequest

GREEDY = Sampling(temperature=0.0)


class Narrow(FakeBackend):
    """A fake with room for so many open rows, which counts what is opened, closed and decoded together."""

    def __init__(self, rooms: int = 99, context: int = 512) -> None:
        super().__init__(ModelSpec(engine="fake", name="fake", path="fake:x", context=context))
        self.rooms = rooms
        self.open_rows: list[Any] = []
        self.widths: list[int] = []

    def has_room(self, prompt: list[int], sampling: Sampling) -> bool:
        return len(self.open_rows) < self.rooms

    def open(self, request: RowRequest, prompt: list[int]) -> Any:
        row = super().open(request, prompt)
        self.open_rows.append(row)
        return row

    def close_row(self, row: Any) -> None:
        self.open_rows.remove(row)

    def decode(self, rows: Any) -> None:
        self.widths.append(len(rows))
        super().decode(rows)


class Desk:
    """A scheduler with what it said, by row."""

    def __init__(self, backend: FakeBackend | None = None) -> None:
        self.backend = backend or Narrow()
        self.cancelled: set[str] = set()
        self.said: dict[str, list[Event]] = {}
        self.scheduler = Scheduler(self.backend, self._take, self.cancelled.__contains__)

    def _take(self, row_id: str, event: Event) -> None:
        self.said.setdefault(row_id, []).append(event)

    def add(self, row_id: str, text: str = "hi", sampling: Sampling = GREEDY, **fields: Any) -> None:
        messages = fields.pop("messages", Conversation.start().ask(text).messages)
        self.scheduler.add(RowRequest(id=row_id, variant=row_id, messages=messages, sampling=sampling, **fields), 0.0)

    def run(self, until: Callable[[], bool] = lambda: False, steps: int = 5000) -> None:
        for _ in range(steps):
            if self.scheduler.idle or until():
                return
            self.scheduler.step()
        raise AssertionError("it goes on for ever")

    def kinds(self, row_id: str) -> list[str]:
        return [type(event).__name__ for event in self.said[row_id]]

    def end(self, row_id: str) -> Finished:
        ends = [event for event in self.said[row_id] if isinstance(event, Finished | Failed)]
        assert len(ends) == 1
        assert self.said[row_id][-1] is ends[0]
        assert isinstance(ends[0], Finished)
        return ends[0]


def test_events_come_in_order_and_add_up() -> None:
    desk = Desk()
    desk.add("a", "hello")
    desk.run()
    started, *deltas, finished = desk.said["a"]
    assert isinstance(started, Started)
    assert started.prompt == "user: hello\n"
    assert started.prompt_tokens == len("user: hello\n")
    assert (started.dtype, started.device, started.dropped_turns, started.seed) == ("fake", "cpu", 0, 0)
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.text) == ("stop", "a heard: hello")
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == finished.text
    assert finished.stats.tokens == len("a heard: hello")
    assert finished.stats.prompt_tokens == started.prompt_tokens
    assert finished.stats.first_token_s is not None
    assert desk.backend.open_rows == []  # type: ignore[attr-defined]


def test_deltas_are_coalesced_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    desk = Desk()
    desk.add("a", "0123456789" * 10)
    while not desk.scheduler.idle:
        clock[0] += 0.01  # ten tokens a tenth of a second
        desk.scheduler.step()
    deltas = [event for event in desk.said["a"] if isinstance(event, Delta)]
    assert 109 / 6 <= len(deltas) <= 109 / 4 + 2
    assert max(len(delta.text) for delta in deltas) <= 6
    stats = desk.end("a").stats
    assert stats.tokens_per_s == pytest.approx(100.0)
    assert stats.first_token_s == pytest.approx(0.03, abs=0.02)


def test_multibyte_characters_are_never_split() -> None:
    desk = Desk()
    desk.add("a", "!emoji")
    desk.run()
    assert desk.end("a").text == "안녕 👩‍👩‍👧 마당 🎉"
    assert "\ufffd" not in "".join(event.text for event in desk.said["a"] if isinstance(event, Delta))


def test_stop_strings_of_the_request_and_of_the_format_end_an_answer() -> None:
    desk = Desk()
    desk.add("a", "one two three", GREEDY.model_copy(update={"stop": ("o th", "three")}))
    desk.add("b", "x <|im_end|> y", prompt_format="chatml")
    desk.run()
    assert (desk.end("a").text, desk.end("a").reason) == ("a heard: one tw", "stop")
    assert (desk.end("b").text, desk.end("b").reason) == ("b heard: x ", "stop")


def test_the_beginning_of_a_stop_that_never_comes_is_shown_at_the_end() -> None:
    desk = Desk()
    desk.add("a", "END", GREEDY.model_copy(update={"stop": ("ENDE",)}))
    desk.run()
    assert desk.end("a").text == "a heard: END"


@pytest.mark.parametrize("limit", [1, 7, 14])
def test_an_answer_has_at_most_so_many_tokens(limit: int) -> None:
    desk = Desk()
    desk.add("a", "hello!", GREEDY.model_copy(update={"max_new_tokens": limit}))
    desk.run()
    end = desk.end("a")
    assert (end.reason, end.stats.tokens, end.text) == ("length", limit, "a heard: hello!"[:limit])


def test_a_full_context_ends_an_answer() -> None:
    desk = Desk(Narrow(context=100))
    desk.add("a", "!long", GREEDY.model_copy(update={"max_new_tokens": 1000}))
    desk.run()
    end = desk.end("a")
    assert end.reason == "length"
    assert end.stats.prompt_tokens + end.stats.tokens == 100


def test_the_oldest_turns_go_first_and_are_counted() -> None:
    talk = Conversation.start("be brief")
    for number in range(10):
        talk = talk.ask(f"question {number}").answer(f"answer {number}")
    desk = Desk(Narrow(context=160))
    desk.add("a", messages=talk.ask("the last").messages)
    desk.run()
    started = desk.said["a"][0]
    assert isinstance(started, Started)
    assert started.dropped_turns == 8
    assert started.prompt == (
        "system: be brief\nuser: question 8\nassistant: answer 8\nuser: question 9\nassistant: answer 9\n"
        "user: the last\n"
    )
    assert started.prompt_tokens <= 160 - 40  # a quarter is kept for the answer
    assert desk.end("a").text == "a heard: the last"


def test_a_question_too_long_alone_fails_and_the_others_go_on() -> None:
    desk = Desk(Narrow(context=64))
    desk.add("a", "fine")
    desk.add("b", "x" * 200, messages=Conversation.start().ask("x").answer("y").ask("x" * 200).messages)
    desk.run()
    failed = desk.said["b"][-1]
    assert isinstance(failed, Failed)
    assert desk.kinds("b") == ["Failed"]
    assert "207 tokens" in failed.message
    assert "holds 64" in failed.message
    assert "context" in failed.hint
    assert desk.end("a").text == "a heard: fine"


def test_a_madang_error_at_opening_ends_that_row_alone() -> None:
    desk = Desk()
    desk.add("bad", "!fail")
    desk.add("good")
    desk.run()
    failed = desk.said["bad"][-1]
    assert isinstance(failed, Failed)
    assert (failed.message, failed.hint) == ("The fake was told to fail.", "Leave out !fail.")
    assert desk.end("good").text == "good heard: hi"


def test_a_prompt_that_cannot_be_built_ends_that_row_alone() -> None:
    desk = Desk()
    desk.add("bad", prompt_format="nonsense")
    desk.add("good")
    desk.run()
    assert desk.kinds("bad") == ["Failed"]
    assert desk.end("good").reason == "stop"


def test_a_row_that_breaks_ends_alone() -> None:
    backend = Narrow()
    draw = backend.sample

    def sample(row: Any) -> int:
        if row.request.id == "bad" and row.made == 4:
            raise VariantError("The model computed no numbers.", "Give its row another dtype.")
        return draw(row)

    backend.sample = sample  # type: ignore[method-assign]
    desk = Desk(backend)
    desk.add("bad")
    desk.add("good")
    desk.run()
    failed = desk.said["bad"][-1]
    assert isinstance(failed, Failed)
    assert (failed.text, failed.message) == ("bad ", "The model computed no numbers.")
    assert desk.end("good").text == "good heard: hi"
    assert backend.open_rows == []


def test_cancelled_before_its_prompt_was_built() -> None:
    desk = Desk()
    desk.cancelled.add("a")
    desk.add("a", prompt_format="nonsense")
    assert desk.end("a").reason == "cancelled"
    assert desk.scheduler.idle


def test_cancelled_while_queued() -> None:
    desk = Desk(Narrow(rooms=1))
    desk.add("a", "!long")
    desk.add("b")
    desk.scheduler.step()
    desk.cancelled.add("b")
    desk.scheduler.step()
    assert desk.kinds("b") == ["Started", "Finished"]
    assert desk.end("b").reason == "cancelled"
    assert desk.end("b").stats.first_token_s is None
    desk.cancelled.add("a")
    desk.run()
    assert desk.backend.open_rows == []  # type: ignore[attr-defined]


def test_cancelled_between_and_inside_the_chunks_of_a_prompt() -> None:
    class CancelsInside(Narrow):
        def prefill(self, row: Any) -> bool:
            if row.request.id == "inside" and row.read:
                desk.cancelled.add("inside")
            return super().prefill(row)

    desk = Desk(CancelsInside(context=4096))
    desk.add("between", "x" * 1000)
    desk.add("inside", "x" * 1000)
    desk.add("other")
    desk.scheduler.step()
    desk.cancelled.add("between")
    desk.run()
    for name in ("between", "inside"):
        assert desk.end(name).reason == "cancelled"
        assert desk.end(name).text == ""
    assert desk.end("other").text == "other heard: hi"
    assert desk.backend.open_rows == []  # type: ignore[attr-defined]


def test_cancelled_while_decoding_keeps_what_was_said() -> None:
    backend = Narrow()
    desk = Desk(backend)
    desk.add("a", "!long")
    desk.add("b", "keeps talking")
    desk.run(until=lambda: len(backend.widths) == 6)
    desk.cancelled.add("a")
    desk.run()
    end = desk.end("a")
    assert (end.reason, end.text, end.stats.tokens) == ("cancelled", "a heard: !long"[: end.stats.tokens], 6)
    assert desk.end("b").reason == "stop"


def test_long_prompts_report_how_far_they_are_read() -> None:
    desk = Desk(Narrow(context=4096))
    desk.add("a", "x" * 1000)
    desk.add("short", "x" * 300)
    desk.run()
    fractions = [event.fraction for event in desk.said["a"] if isinstance(event, Progress)]
    assert fractions == sorted(fractions)  # type: ignore[type-var]
    assert len(fractions) == 1006 // 64
    assert all(fraction is not None and 0 < fraction < 1 for fraction in fractions)
    assert "Progress" not in desk.kinds("short")


def test_the_system_message_alone_is_no_question() -> None:
    desk = Desk()
    desk.add("a", messages=(Message(role="system", content="x" * 600),))
    assert desk.kinds("a") == ["Failed"]


def told(desk: Desk, row_id: str) -> list[TokenLogprob]:
    return [token for event in desk.said[row_id] if isinstance(event, Delta) for token in event.tokens]


def test_a_prompt_of_ids_is_taken_as_it_is() -> None:
    desk = Desk()
    desk.add("a", messages=(), ids=(*b"ab", 256, *b"c"))
    desk.run()
    started = desk.said["a"][0]
    assert isinstance(started, Started)
    assert (started.prompt, started.prompt_tokens) == ("ab<end>c", 4)
    assert desk.end("a").text == "a heard: abc"


@pytest.mark.parametrize(
    ("ids", "words"), [((), "empty"), ((5, 257), "257"), ((-1,), "-1"), ((1,) * 600, "600 tokens")]
)
def test_ids_that_would_end_an_engine_fail_and_the_others_go_on(ids: tuple[int, ...], words: str) -> None:
    desk = Desk()
    desk.add("bad", messages=(), ids=ids)
    desk.add("good")
    desk.run()
    failed = desk.said["bad"][-1]
    assert isinstance(failed, Failed)
    assert words in failed.message
    assert failed.error == ("ContextError" if len(ids) == 600 else "VariantError")
    assert desk.end("good").text == "good heard: hi"


def test_log_probabilities_come_with_every_token_and_only_where_they_are_asked_for() -> None:
    desk = Desk()
    desk.add("a", "aa b", top_logprobs=2)
    desk.add("none", "aa b", top_logprobs=0)
    desk.add("b", "aa b")
    desk.run()
    tokens = told(desk, "a")
    assert bytes(byte for token in tokens for byte in token.raw).decode() == desk.end("a").text == "a heard: aa b"
    assert [token.id for token in tokens] == list(b"a heard: aa b")  # the end itself is not told
    assert {len(token.top) for token in tokens} == {2}
    assert {token.logprob for token in tokens} == {-0.5, -1.0, -2.0}
    assert {token.top for token in told(desk, "none")} == {()}
    assert len(told(desk, "none")) == len("none heard: aa b")
    assert told(desk, "b") == []


def test_log_probabilities_are_not_computed_where_they_are_not_asked_for() -> None:
    class Silent(Narrow):
        def likely(self, row: Any, token: int) -> TokenLogprob:
            raise AssertionError("nobody asked")

    desk = Desk(Silent())
    desk.add("a")
    desk.run()
    assert desk.end("a").text == "a heard: hi"


def test_tokens_of_a_stop_string_are_told_before_the_end_though_their_text_is_not_shown() -> None:
    desk = Desk()
    desk.add("a", "xyz", GREEDY.model_copy(update={"stop": ("a heard: xy",)}), top_logprobs=1)
    desk.run()
    assert desk.end("a").text == ""
    assert bytes(token.id for token in told(desk, "a")) == b"a heard: xy"
    assert isinstance(desk.said["a"][-2], Delta)


def test_tokens_of_half_a_character_are_told_before_the_end() -> None:
    desk = Desk()
    desk.add("a", "!emoji", GREEDY.model_copy(update={"max_new_tokens": 5}), top_logprobs=0)
    desk.run()
    assert desk.end("a").text == "안"
    assert bytes(token.id for token in told(desk, "a")) == "안녕".encode()[:5]


def test_a_row_cancelled_while_decoding_has_told_its_tokens() -> None:
    backend = Narrow()
    desk = Desk(backend)
    desk.add("a", "!long", top_logprobs=1)
    desk.run(until=lambda: len(backend.widths) == 6)
    desk.cancelled.add("a")
    desk.run()
    assert len(told(desk, "a")) == desk.end("a").stats.tokens == 6
