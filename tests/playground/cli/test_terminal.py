"""The chat in a terminal: panes, commands, and a conversation for each variant."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from playground.cli import terminal
from playground.cli.terminal import Chat, Pane
from playground.compare import Playground
from playground.errors import ConfigError, UnknownNameError
from playground.events import Delta, Event, Failed, Finished, Progress, Started, Stats
from playground.messages import Conversation
from playground.presets import Sampling, preset
from playground.settings import Settings

pytestmark = pytest.mark.timeout(120)
STATS = Stats(
    prompt_tokens=9, tokens=12, first_token_s=0.251, tokens_per_s=31.4, memory_bytes=300 * 2**20, dtype="bf16"
)
STARTED = Started(variant="v", prompt="p", prompt_tokens=9, dropped_turns=2, seed=1, dtype="bf16", device="cpu")


def shown(pane: Pane, width: int = 60) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(pane.render(width))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_pane_says_what_its_variant_does() -> None:
    pane = Pane("v")
    pane.take(Progress(variant="v", step="downloading", fraction=0.25, detail="owner/x"))
    assert pane.line == "downloading 25% owner/x"
    pane.take(Progress(variant="v", step="queued", detail="base"))
    assert pane.line == "queued base"
    pane.take(STARTED)
    assert "2 older turns left out" in shown(pane)
    pane.take(Delta(variant="v", text="half "))
    pane.take(Finished(variant="v", reason="length", text="half an answer", stats=STATS))
    assert pane.line == "0.25 s · 31 tok/s · 12 tokens · 300 MB · bf16 · length"
    assert "half an answer" in shown(pane)


def test_a_pane_that_failed_keeps_what_was_said() -> None:
    pane = Pane("v")
    pane.take(Delta(variant="v", text="so far"))
    pane.take(Failed(variant="v", message="It broke [bold]here[/x].", hint="Ask again."))
    assert pane.failed
    for part in ("so far", "It broke [bold]here[/x].", "Ask again."):
        assert part in shown(pane)


@pytest.mark.parametrize("width", [20, 36, 80, 200])
def test_panes_fit_any_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    panes = [Pane(f"variant-{number}", text="긴 답 " * 40) for number in range(3)]
    console.print(terminal._side_by_side(width, panes))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(f"variant-{number}"[: width - 8] in text for number in range(3))


def test_ctrl_c_cancels_and_the_answers_still_end() -> None:
    class Interrupted:
        """A comparison in whose middle someone presses Ctrl-C."""

        def __init__(self) -> None:
            self.cancelled = 0
            self.events: list[Event | type[BaseException]] = [
                Delta(variant="v", text="a"),
                KeyboardInterrupt,
                Finished(variant="v", reason="cancelled", text="a", stats=STATS),
            ]

        def __iter__(self) -> Iterator[Event]:
            return self

        def __next__(self) -> Event:
            if not self.events:
                raise StopIteration
            event = self.events.pop(0)
            if isinstance(event, type):
                raise event
            return event

        def cancel(self) -> None:
            self.cancelled += 1

    comparison = Interrupted()
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    (pane,) = terminal.follow(console, comparison, ["v"])  # type: ignore[arg-type]
    assert comparison.cancelled == 1
    assert (pane.text, pane.state) == ("a", "cancelled")


@pytest.fixture
def chat(playground: Playground) -> Chat:
    console = Console(file=io.StringIO(), width=100)
    chat = Chat(playground, ["base", "other"], Sampling(temperature=0), console=console)
    chat.clear()
    return chat


def turns(chat: Chat, name: str = "base") -> list[str]:
    return [message.content for message in chat.conversations[name].messages]


def test_every_variant_keeps_its_own_answers(chat: Chat) -> None:
    chat.take("one")
    chat.take("two")
    assert turns(chat) == ["one", "base heard: one", "two", "base heard: two"]
    assert turns(chat, "other") == ["one", "other heard: one", "two", "other heard: two"]


def test_undo_retry_and_clear(chat: Chat) -> None:
    chat.system = "be brief"
    chat.take("/clear")
    chat.take("one")
    chat.take("two")
    chat.take("/undo")
    assert turns(chat) == ["be brief", "one", "base heard: one"]
    chat.take("/retry")  # asks what stands last again, not what was taken back
    assert turns(chat) == ["be brief", "one", "base heard: one"]
    assert len(chat.before) == 1
    chat.take("/clear")
    assert turns(chat) == ["be brief"]
    chat.take("/undo")
    assert turns(chat) == ["be brief"]


def test_a_retry_after_a_failure_loses_no_turn(chat: Chat) -> None:
    chat.take("one")
    chat.take("!crash")
    assert turns(chat) == ["one", "base heard: one"]  # an answer that failed leaves no turn behind
    chat.take("/retry")
    assert turns(chat) == ["one", "base heard: one"]
    chat.take("/undo")
    assert turns(chat) == ["one", "base heard: one"]
    chat.take("/undo")
    assert turns(chat) == []


def test_presets_and_seeds_change_what_comes_next(chat: Chat) -> None:
    chat.sampling = Sampling(seed=3, max_new_tokens=99)
    chat.take("/preset factual")
    assert chat.sampling == preset("factual").model_copy(update={"seed": 3, "max_new_tokens": 99})
    seeds = []
    for line in ("/seed 17", "/seed"):
        chat.take(line)
        seeds.append(chat.sampling.seed)
    assert seeds == [17, None]
    with pytest.raises(UnknownNameError):
        chat.take("/preset fcatual")
    for seed in ("x", "-1", "1.5"):
        with pytest.raises(ConfigError, match="seed"):
            chat.take(f"/seed {seed}")
    assert chat.sampling.temperature == 0.1


def test_a_session_reads_lines_until_the_end(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["", "/help", "/preset nope", "/seed x", "hello", "/retry", "/quit", "never read"])
    monkeypatch.setattr(chat.console, "input", lambda prompt: next(lines))
    chat.run()
    text = chat.console.file.getvalue()  # type: ignore[attr-defined]
    assert "There is no preset named 'nope'" in text
    assert "seed = 'x'" in text
    assert text.count("base heard: hello") == 2
    assert next(lines) == "never read"
    assert chat.conversations["base"] == Conversation().ask("hello").answer("base heard: hello")


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_the_end_of_input_ends_the_chat(end: type[BaseException], chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(prompt: str) -> str:
        raise end

    monkeypatch.setattr(chat.console, "input", ends)
    chat.run()


def test_thoughts_stand_apart_in_the_terminal(fake_settings: Settings) -> None:
    own = '\n[[variant]]\nname = "deep"\nkind = "base"\nsource = "fake:thinker"\n'
    file = fake_settings.catalogue
    file.write_text(file.read_text(encoding="utf-8") + own, encoding="utf-8")
    playground = Playground(fake_settings)
    out = io.StringIO()
    chat = Chat(playground, ["deep"], Sampling(temperature=0), console=Console(file=out, width=100))
    chat.clear()
    chat.take("one")
    assert chat.conversations["deep"].messages[-1].reasoning_content == "They said: one"
    assert "They said: one" in out.getvalue()
    assert "of thought" in out.getvalue()
    chat.take("/think off")
    chat.take("two")
    assert "They said: two" not in out.getvalue()
    with pytest.raises(UnknownNameError):
        chat.take("/think hm")
    playground.close()


def test_html_in_an_answer_is_text() -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, no_color=True)
    pane = Pane("a", text="<think>Hm.</think>\n\nUse <b>this</b>:\n\n<table><tr><td>1</td></tr></table>")
    console.print(pane.render(60))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("<think>Hm.</think>", "<b>this</b>", "<table><tr><td>1</td></tr></table>"):
        assert part in shown


def test_a_pipe_gets_plain_text_and_all_of_it(fake_settings: Settings) -> None:
    said = "<think>a</think> **b** " + "word " * 60
    console = Console(file=io.StringIO(), width=80)
    end = Finished(variant="a", reason="stop", text=said, reasoning="I thought.", stats=STATS)
    terminal.follow(console, iter([end]), ["a"])  # type: ignore[arg-type]
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.splitlines()[0] == "== a =="
    assert said in shown
    assert "[thought]\nI thought.\n[answer]\n" in shown
    assert not set(shown) & set("╭╮╰╯│─")
