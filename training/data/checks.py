"""What is wrong with the data, before any step is trained: one small check after another, each naming its rows.

Fatal is what training cannot use. A row that one fatal check names is left to it: the others count sound rows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from training.data import broken, faults
from training.data.encoder import Encoder
from training.data.examples import Example
from training.data.faults import prompt_key, usable, whole_key
from training.data.findings import Finding, Severity, listed, many
from training.data.formats import Data
from training.data.lengths import Lengths, wholly_cut
from training.data.overlap import overlaps

__all__ = ["Finding", "check", "listed", "prompt_key", "usable"]

LEFT_OUT = "Correct these rows, or let --fix leave them out."
ANSWER = "Write the answers, or let --fix leave these out."


@dataclass(frozen=True)
class Sight:
    """What the checks look at. `benchmark`: (task, text) of questions that must not be trained on."""

    data: Data
    encoder: Encoder | None = None
    max_length: int | None = None
    lengths: Lengths | None = None
    benchmark: Iterable[tuple[str, str]] = ()
    lost: set[int] = field(default_factory=set)

    @cached_property
    def sound(self) -> list[Example]:
        """The rows that no fatal check of their content has named."""
        return [example for example in self.data.examples if example.row not in self.lost]

    @cached_property
    def suspects(self) -> list[Example]:
        """Sound rows with a character that a wrong encoding might have left."""
        return [example for example in self.sound if any(broken.SUSPECT.search(text) for text in example.written)]


Check = Callable[[Sight], Iterator[Finding]]


def check(
    data: Data,
    encoder: Encoder | None = None,
    max_length: int | None = None,
    lengths: Lengths | None = None,
    benchmark: Iterable[tuple[str, str]] | None = None,
) -> list[Finding]:
    """Everything that is wrong, what was found while reading included; the worst first.

    `lengths` (of `encoder`) say which rows `max_length` cuts; without it, the recommended maximum is looked at.
    """
    sight = Sight(data, encoder, max_length, lengths, benchmark or ())
    found = list(data.findings)
    for look in CONTENT:
        now = list(look(sight))
        sight.lost.update(row for finding in now for row in finding.rows)
        found += now
    for look in OTHERS:
        found += look(sight)
    order: dict[Severity, int] = {"fatal": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def _of(sight: Sight, fault: Callable[[Example], object]) -> tuple[int, ...]:
    return tuple(example.row for example in sight.data.examples if example.row not in sight.lost and fault(example))


def _fatal(name: str, fault: Callable[[Example], object], what: str, remedy: str) -> Check:
    def look(sight: Sight) -> Iterator[Finding]:
        if rows := _of(sight, fault):
            yield Finding(name, "fatal", rows, f"{many(len(rows))} {what}", remedy, True)

    return look


def roles(sight: Sight) -> Iterator[Finding]:
    """Turns that no chat template can render, by what is wrong with them."""
    wrong: dict[str, list[int]] = {}
    for example in sight.data.examples:
        if example.row not in sight.lost and (what := faults.disorder(example)):
            wrong.setdefault(what, []).append(example.row)
    for what, rows in wrong.items():
        remedy = "Roles are system (first alone), then user and assistant in turn, an answer last. --fix leaves out."
        yield Finding("roles", "fatal", tuple(rows), f"{many(len(rows))} {what}", remedy, True)


def wordless_answers(sight: Sight) -> Iterator[Finding]:
    """Answers of signs alone, which may be meant."""
    rows = tuple(e.row for e in sight.sound if any(not faults.SAID.search(answer) for answer in faults.answers(e)))
    if rows:
        what = f"{many(len(rows))} with an answer that has no letter or digit"
        yield Finding("wordless-answers", "warning", rows, what, "Look whether they are meant.")


def encodings(sight: Sight) -> Iterator[Finding]:
    """Traces of a wrong encoding: repaired where that can be undone, named where it cannot."""
    mangled = _where(sight, lambda text: broken.unmangled(text) != text)
    if mangled:
        what = f"{many(len(mangled))} read in the wrong encoding, such as 'ì•ˆë…•' for '안녕'"
        yield Finding("mojibake", "warning", mangled, what, "--fix reads them in the right one.", True)
    replaced = _where(sight, broken.REPLACED.search)
    if replaced:
        what = f"{many(len(replaced))} with characters that were lost (U+FFFD)"
        yield Finding("lost-characters", "warning", replaced, what, "Read the source again in its own encoding.")
    known = set(mangled)
    controls = tuple(row for row in _where(sight, broken.CONTROLS.search) if row not in known)
    if controls:
        what = f"{many(len(controls))} with control characters"
        yield Finding("control-characters", "warning", controls, what, "--fix takes them out.", True)


def decomposed(sight: Sight) -> Iterator[Finding]:
    """Hangul in parts (ㅎ, ㅏ, ㄴ for 한), as macOS writes file names: other tokens than all other Korean text."""
    rows = _where(sight, lambda text: broken.composed(text) != text)
    if rows:
        what = f"{many(len(rows))} with Hangul in decomposed form (NFD)"
        yield Finding("decomposed", "warning", rows, what, "--fix composes it (NFC).", True)


def _where(sight: Sight, wrong: Callable[[str], object]) -> tuple[int, ...]:
    return tuple(example.row for example in sight.suspects if any(wrong(text) for text in example.written))


def duplicates(sight: Sight) -> Iterator[Finding]:
    """Rows that repeat an earlier one, spaces and composition aside; and questions answered in several ways."""
    wholes: set[bytes] = set()
    prompts: set[bytes] = set()
    again, differently = [], []
    for example in sight.sound:
        whole, prompt = whole_key(example), prompt_key(example)
        if whole in wholes:
            again.append(example.row)
        elif prompt in prompts:
            differently.append(example.row)
        wholes.add(whole)
        prompts.add(prompt)
    if again:
        what = f"{many(len(again))} the same as an earlier one"
        yield Finding("duplicates", "warning", tuple(again), what, "--fix keeps the first of each.", True)
    if differently:
        what = f"{many(len(differently))} with an earlier row's question and another answer"
        yield Finding("same-question", "note", tuple(differently), what, "Nothing to do where both answers are right.")


def cuts(sight: Sight) -> Iterator[Finding]:
    """Rows over the maximum length, and answers that it cuts off whole."""
    if sight.lengths is None or sight.encoder is None:
        return
    lengths, asked = sight.lengths, sight.max_length is not None
    if lengths.refused:
        what = f"{many(len(lengths.refused))} that the chat template refuses"
        yield Finding("template", "fatal", lengths.refused, what, LEFT_OUT, True)
    maximum = sight.max_length or lengths.recommended
    rows = lengths.over(maximum)
    if not rows:
        return
    ends = "their ends" if sight.data.kind == "text" else "the ends of their answers"
    said = f"{many(len(rows))} ({lengths.share_over(maximum):.1%}) over {maximum:,} tokens: {ends} are cut"
    remedy = f"A maximum of {lengths.maximum:,} cuts none, {lengths.recommended:,} is recommended."
    yield Finding("too-long", "warning" if asked else "note", rows, said, remedy)
    if lost := wholly_cut(sight.data, sight.encoder, rows, maximum):
        what = (
            f"{many(len(lost))} ({len(lost) / len(sight.data):.1%}) whose answer lies wholly beyond {maximum:,} tokens"
        )
        yield Finding("cut-answers", "fatal" if asked else "warning", lost, what, f"{remedy} --fix leaves out.", True)


def benchmark(sight: Sight) -> Iterator[Finding]:
    """Rows that hold a benchmark's questions, or that its texts hold: scores would measure memory."""
    for task, rows in overlaps(sight.sound, sight.benchmark).items():
        what = f"{many(len(rows))} overlapping with questions of {task}"
        remedy = "Leave them out (--fix does), or do not report that score."
        yield Finding("benchmark", "warning", rows, what, remedy, True)


CONTENT: tuple[Check, ...] = (
    _fatal("empty", faults.empty, "without text, or with an empty question", LEFT_OUT),
    _fatal("meaningless", faults.meaningless, "without a letter or digit", LEFT_OUT),
    _fatal("missing-answers", faults.unanswered, "without an answer", ANSWER),
    roles,
    _fatal("same-answers", faults.same, "whose chosen and rejected answers are equal", LEFT_OUT),
    _fatal("half-characters", faults.halved, "with halves of characters (lone surrogates)", "--fix takes them out."),
)
OTHERS: tuple[Check, ...] = (wordless_answers, encodings, decomposed, duplicates, cuts, benchmark)
