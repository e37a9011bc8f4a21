"""Comparisons in a terminal: panes side by side where there is room, below each other where there is none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markdown_it import MarkdownIt
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.text import Text

from playground.cli.language import fault, told, word
from playground.compare import Comparison, Playground, Question
from playground.errors import MadangError
from playground.events import Delta, Event, Failed, Finished, Progress, Started, Stats
from playground.messages import Conversation
from playground.presets import Sampling, changed, preset
from playground.thinking.asked import Thinking, spoken

MIN_PANE = 36
HELP = "/retry  /undo  /clear  /preset NAME  /seed N  /think on|off|default  /quit     Ctrl-C stops an answer"
LAST_LINES = 4
"""Of a thought that is under way."""


class Said(Markdown):
    """An answer's Markdown whose HTML is text: rich leaves it out, and with it whatever stands between tags."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        plain = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
        self.parsed = plain.parse(text)


@dataclass
class Pane:
    """One variant's answer while it comes."""

    variant: str
    text: str = ""
    reasoning: str = ""
    note: str = ""
    state: str = ""
    failed: bool = False
    stats: Stats | None = None

    def take(self, event: Event) -> None:
        """Show one event of this variant."""
        if isinstance(event, Progress):
            share = f" {event.fraction:.0%}" if event.fraction is not None else ""
            self.state = f"{event.step}{share} {event.detail}".strip()
        elif isinstance(event, Started):
            self.state = "reading"
            said = [word(f"answer.{notice}") for notice in event.notices]
            if event.dropped_turns:
                said.append(f"{event.dropped_turns} older turns left out: the context is full")
            self.note = "\n".join(said)
        elif isinstance(event, Delta):
            self.text, self.reasoning = self.text + event.text, self.reasoning + event.reasoning
            self.state = "" if self.text else "thinking"
        elif isinstance(event, Finished):
            self.text, self.reasoning = event.text, event.reasoning
            self.stats, self.state = event.stats, event.reason
            if self.reasoning and not self.text:
                self.note = word("answer.only_thought")
        elif isinstance(event, Failed):
            self.note, self.failed, self.state = f"{told(event.message)}\n{told(event.hint)}".strip(), True, "failed"

    @property
    def line(self) -> str:
        """Its status: while it runs the step, at the end first token, speed, tokens, memory and dtype."""
        if self.stats is None:
            return self.state
        stats, parts = self.stats, []
        if stats.first_token_s is not None:
            parts.append(f"{stats.first_token_s:.2f} s")
        if stats.tokens_per_s is not None:
            parts.append(f"{stats.tokens_per_s:.0f} {'tok' if stats.counted else 'parts'}/s")
        thought = f" ({stats.reasoning_tokens} of thought, {stats.reasoning_s or 0:.1f} s)"
        parts.append(
            f"{stats.tokens} {'tokens' if stats.counted else 'parts of text'}{thought if self.reasoning else ''}"
        )
        parts += [f"{stats.memory_bytes / 2**20:.0f} MB", stats.dtype]
        return " · ".join(part for part in parts if part) + ("" if self.state == "stop" else f" · {self.state}")

    @property
    def _thought(self) -> str:
        """What was thought: while it comes, the end of it."""
        lines = self.reasoning.splitlines()
        return "\n".join(lines if self.stats else lines[-LAST_LINES:]) + ("\n" if self.text else "")

    def plain(self) -> str:
        """Return the pane as lines for files and other programs: as it was said, without a box."""
        thought = f"[thought]\n{self.reasoning}\n[answer]" if self.reasoning else ""
        return (
            "\n".join(filter(None, (f"== {self.variant} ==", thought, self.text, self.note, f"({self.line})"))) + "\n"
        )

    def render(self, width: int) -> RenderableType:
        """Return the pane as a box of that width."""
        parts: list[RenderableType] = [Text(self._thought, style="dim italic")] if self.reasoning else []
        parts += [Said(self.text)] if self.text else []
        if self.note:
            parts.append(Text(self.note, style="red" if self.failed else "yellow"))
        parts.append(Text(self.line, style="dim"))
        return Panel(Group(*parts), title=Text(self.variant), title_align="left", width=width)


def show_answers(console: Console, comparison: Comparison, names: Sequence[str]) -> bool:
    """Stream the answers into panes; Ctrl-C stops them. True where every variant answered."""
    panes = follow(console, comparison, names)
    return not any(pane.failed for pane in panes)


def follow(console: Console, comparison: Comparison, names: Sequence[str]) -> list[Pane]:
    """Stream a comparison and return its panes as they ended."""
    panes = {name: Pane(name) for name in names}
    if not console.is_terminal:
        for event in comparison:
            panes[event.variant].take(event)
        console.print(*[Text(pane.plain()) for pane in panes.values()], sep="\n", soft_wrap=True)
        return list(panes.values())
    with Live(console=console, refresh_per_second=8, vertical_overflow="visible") as live:
        for event in _stoppable(comparison):
            panes[event.variant].take(event)
            live.update(_side_by_side(console.width, panes.values()))
    return list(panes.values())


def _stoppable(comparison: Comparison) -> Iterable[Event]:
    """Yield the events; Ctrl-C cancels the rest, which still arrives as Finished."""
    events = iter(comparison)
    while True:
        try:
            yield next(events)
        except StopIteration:
            return
        except KeyboardInterrupt:
            comparison.cancel()


def _side_by_side(width: int, panes: Iterable[Pane]) -> RenderableType:
    panes = list(panes)
    fits = max(1, min(len(panes), width // MIN_PANE))
    return Columns([pane.render(width // fits - 1) for pane in panes], padding=(0, 0))


@dataclass
class Chat:
    """A conversation in the terminal: one question to all, each variant keeping its own answers."""

    playground: Playground
    names: list[str]
    sampling: Sampling
    thinking: Thinking = Thinking()
    system: str = ""
    parse_special: bool = False
    console: Console = field(default_factory=Console)
    conversations: dict[str, Conversation] = field(default_factory=dict)
    before: list[tuple[str, dict[str, Conversation]]] = field(default_factory=list)
    """Each question that stands, with the conversations before it."""

    def run(self) -> None:
        """Read questions until the end of input or /quit."""
        self.clear()
        self.console.print(Text(f"마당 Madang · {', '.join(self.names)}\n{HELP}", "dim"))
        while True:
            try:
                line = self.console.input("\n[bold]> [/bold]").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line in {"/quit", "/exit"}:
                return
            try:
                self.take(line)
            except MadangError as error:
                self.console.print(Text(fault(error), "red"))

    def take(self, line: str) -> None:
        """Read one line: a command or a question."""
        command, _, argument = line.partition(" ")
        if command == "/clear":
            self.clear()
        elif command == "/undo":
            if self.before:
                self.undo()
        elif command == "/retry" and self.before:
            self.ask(self.undo())
        elif command == "/preset":
            kept = {"seed": self.sampling.seed, "max_new_tokens": self.sampling.max_new_tokens}
            self.sampling = preset(argument.strip()).model_copy(update=kept)
        elif command == "/seed":
            fields = self.sampling.model_dump() | {"seed": argument.strip() or None}
            self.sampling = changed(fields)
        elif command == "/think":
            self.thinking = spoken(argument.strip() or "default", self.thinking.budget)
        elif line.startswith("/"):
            self.console.print(HELP, style="dim")
        elif line:
            self.ask(line)

    def clear(self) -> None:
        """Begin anew."""
        self.conversations = {name: Conversation.start(self.system) for name in self.names}
        self.before = []

    def undo(self) -> str:
        """Take the last question back, whether it was answered or not, and return it."""
        question, self.conversations = self.before.pop()
        return question

    def ask(self, text: str) -> None:
        """Ask all variants; an answer that failed leaves no turn behind."""
        self.before.append((text, dict(self.conversations)))
        asked = {name: kept.ask(text) for name, kept in self.conversations.items()}
        how: dict[str, Any] = {
            "sampling": self.sampling,
            "thinking": self.thinking,
            "parse_special": self.parse_special,
        }
        questions = [Question(variant=name, messages=kept.messages, **how) for name, kept in asked.items()]
        for pane in follow(self.console, self.playground.ask(questions), self.names):
            if not pane.failed:
                self.conversations[pane.variant] = asked[pane.variant].answer(pane.text, pane.reasoning)
