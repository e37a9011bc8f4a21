"""What is wrong with the data, before any step is trained: one small check after another, each naming its rows.

Fatal is what training cannot use. A row that one fatal check names is left to it: the others count sound rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from playground.thinking.asked import Thinking
from playground.traits import Notice
from training.data import encodings, faults
from training.data.encoder import Encoder
from training.data.examples import Example
from training.data.faults import prompt_key, whole_key
from training.data.findings import Finding, Severity, many
from training.data.formats import Data
from training.data.lengths import Lengths, wholly_cut
from training.data.overlap import overlaps
from training.data.thoughts import parted, wrong_tags

LEFT_OUT = "Correct these rows, or let --fix leave them out."
MOST_REASONS = 5
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

    @property
    def left(self) -> Iterator[Example]:
        """Yield the rows that no fatal check of their content has named yet."""
        return (example for example in self.data.examples if example.row not in self.lost)

    @cached_property
    def sound(self) -> list[Example]:
        """Return the rows that are left once every fatal check of their content has looked."""
        return list(self.left)

    @cached_property
    def suspects(self) -> list[Example]:
        """Return the sound rows with a character that a wrong encoding might have left."""
        return [example for example in self.sound if any(encodings.SUSPECT.search(text) for text in example.written)]


Check = Callable[[Sight], Iterator[Finding]]


def check(
    data: Data,
    encoder: Encoder | None = None,
    max_length: int | None = None,
    lengths: Lengths | None = None,
    benchmark: Iterable[tuple[str, str]] | None = None,
) -> list[Finding]:
    """Return everything that is wrong, what was found while reading included; the worst first.

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


def _found(
    check: str, severity: Severity, rows: Iterable[int], what: str, remedy: str, fix: bool = False
) -> Iterator[Finding]:
    """Yield a finding that begins with the number of its rows, where there are any."""
    if numbers := tuple(rows):
        yield Finding(check, severity, numbers, f"{many(len(numbers))} {what}", remedy, fix)


def _fatal(name: str, fault: Callable[[Example], object], what: str, remedy: str) -> Check:
    def look(sight: Sight) -> Iterator[Finding]:
        return _found(name, "fatal", (example.row for example in sight.left if fault(example)), what, remedy, True)

    return look


def roles(sight: Sight) -> Iterator[Finding]:
    """Find turns that no chat template can render, by what is wrong with them."""
    wrong: dict[str, list[int]] = {}
    for example in sight.left:
        if what := faults.disorder(example):
            wrong.setdefault(what, []).append(example.row)
    remedy = "Roles are system (first alone), then user and assistant in turn, tool after an answer that calls it, "
    remedy += "an answer last. --fix leaves out."
    for what, rows in wrong.items():
        yield from _found("roles", "fatal", rows, what, remedy, True)


def tools(sight: Sight) -> Iterator[Finding]:
    """Find rows whose tools, calls or results the chat template has no place for."""
    lost: dict[str, list[int]] = {}
    for example in sight.left if sight.encoder is not None else ():
        if what := sight.encoder.lacks(example):  # type: ignore[union-attr]
            lost.setdefault(what, []).append(example.row)
    remedy = "Train a model whose template writes them, or let --fix leave these rows out."
    for what, rows in lost.items():
        yield from _found("tools", "fatal", rows, f"of which the chat template has no place for {what}", remedy, True)


def wordless_answers(sight: Sight) -> Iterator[Finding]:
    """Find answers of signs alone, which may be meant."""
    rows = (e.row for e in sight.sound if any(not faults.SAID.search(answer) for answer in faults.answers(e)))
    what = "with an answer that has no letter or digit"
    return _found("wordless-answers", "warning", rows, what, "Look whether they are meant.")


def placeholders(sight: Sight) -> Iterator[Finding]:
    """Find texts that are nothing but what other programs write into an empty cell."""
    texts = ((e.row, text) for e in sight.sound for text in (*e.written, *(turn.input for turn in e.turns)))
    said = {row: text.strip() for row, text in texts if faults.is_placeholder(text)}
    about = ", ".join(sorted(set(said.values()))[:3])
    remedy = "Look whether they are meant: programs write these into empty cells. Else leave these rows out."
    for found in _found("placeholders", "warning", said, f"with a text that is nothing but {about}", remedy):
        yield replace(found, about=about)


def wrong_encodings(sight: Sight) -> Iterator[Finding]:
    """Find traces of a wrong encoding: repaired where that can be undone, named where it cannot."""
    mangled = _where(sight, lambda text: encodings.unmangled(text) != text)
    what = "read in the wrong encoding, such as 'ì•ˆë…•' for '안녕'"
    yield from _found("mojibake", "warning", mangled, what, "--fix reads them in the right one.", True)
    replaced = _where(sight, encodings.REPLACED.search)
    what = "with characters that were lost (U+FFFD)"
    yield from _found("lost-characters", "warning", replaced, what, "Read the source again in its own encoding.")
    known = set(mangled)
    controls = (row for row in _where(sight, encodings.CONTROLS.search) if row not in known)
    yield from _found(
        "control-characters", "warning", controls, "with control characters", "--fix takes them out.", True
    )


def decomposed(sight: Sight) -> Iterator[Finding]:
    """Find Hangul in parts (ㅎ, ㅏ, ㄴ for 한), as macOS writes file names: other Korean text has other tokens."""
    rows = _where(sight, lambda text: encodings.composed(text) != text)
    return _found(
        "decomposed", "warning", rows, "with Hangul in decomposed form (NFD)", "--fix composes it (NFC).", True
    )


def _where(sight: Sight, wrong: Callable[[str], object]) -> list[int]:
    return [example.row for example in sight.suspects if any(wrong(text) for text in example.written)]


def duplicates(sight: Sight) -> Iterator[Finding]:
    """Find rows that repeat an earlier one, spaces and composition aside, and questions answered in several ways."""
    wholes: set[bytes] = set()
    prompts: set[bytes] = set()
    again, differently = [], []
    for example in sight.sound:
        whole, prompt = whole_key(example), prompt_key(example)
        if whole in wholes:
            again.append(example.row)
        elif prompt in prompts and example.kind not in ("rated", "prompt"):
            differently.append(example.row)
        wholes.add(whole)
        prompts.add(prompt)
    what = "the same as an earlier one"
    yield from _found("duplicates", "warning", again, what, "--fix keeps the first of each.", True)
    what = "with an earlier row's question and another answer"
    yield from _found("same-question", "note", differently, what, "Nothing to do where both answers are right.")


def ratings(sight: Sight) -> Iterator[Finding]:
    """Find answers that are rated both ways, and too few ratings of one kind to learn from.

    The weights are those that the KTO paper's eq. 8 and TRL's trainer advise: the two kinds' sums, 1 to 4/3.
    """
    if sight.data.kind != "rated" or not sight.sound:
        return
    sides: dict[bytes, set[bool | None]] = {}
    for example in sight.sound:
        sides.setdefault(whole_key(replace(example, good=None)), set()).add(example.good)
    both = {key for key, said in sides.items() if len(said) > 1}
    rows = (e.row for e in sight.sound if both and whole_key(replace(e, good=None)) in both)
    what = "with an answer that is rated both good and bad"
    yield from _found("rated-both-ways", "warning", rows, what, "Decide which it is: each undoes the other.")
    good = sum(bool(example.good) for example in sight.sound)
    bad = len(sight.sound) - good
    if not (good and bad):
        what = f"every answer is rated {'good' if good else 'bad'}: KTO learns from the difference"
        remedy = "Add answers of the other kind." + (" Good ones alone are what sft is for." if good else "")
        yield Finding("one-sided", "warning", (), what, remedy)
    elif advised := _weights(good, bad):
        what = f"{good:,} answers are rated good and {bad:,} bad: {advised} makes up for it"
        todo = "Write that weight into the recipe, or leave it where the shares are meant."
        yield Finding("ratings", "note", (), what, todo, about=f"{good:,} : {bad:,} ({advised})")


def _weights(good: int, bad: int) -> str:
    """Return which weight makes up for an unequal number of ratings; empty where none is needed."""
    more, fewer, name = (good, bad, "undesirable_weight") if good > bad else (bad, good, "desirable_weight")
    low, high = (more / fewer / (4 / 3), more / fewer) if good > bad else (more / fewer, more / fewer * 4 / 3)
    return "" if low <= 1 <= high else f"trainer.{name} between {low:.2f} and {high:.2f}"


def thoughts(sight: Sight) -> Iterator[Finding]:
    """Find answers whose thoughts are missing, doubled, or have no place in the chat template."""
    answers = [(example.row, turn) for example in sight.sound for turn in faults.answered(example)]
    opens = sight.encoder is not None and sight.encoder.habits.opens
    doubled = dict.fromkeys(row for row, turn in answers if wrong_tags(turn, opens))
    what = "with tags of a thought that stand twice, one without the other, or without an answer behind them"
    yield from _found("thought-tags", "warning", doubled, what, "Write each thought once, in tags or in a field.")
    if sight.encoder is None or sight.data.kind in ("text", "prompt"):
        return
    known = sight.encoder.habits
    lost = dict.fromkeys(row for row, turn in answers if turn.thought and not (known.tags or known.field))
    what = "whose thoughts (reasoning_content, thinking) are not trained: the chat template has no place for them"
    remedy = "Train a model whose template has one, or write them into the text between <think> and </think>."
    yield from _found("thoughts-left-out", "warning", lost, what, remedy)
    asked = known.opens or (known.thinks and bool(known.variables(Thinking(mode="off"))))
    none = dict.fromkeys(row for row, turn in answers if asked and not parted(turn, known).thought)
    how = "opens one" if known.opens else "may ask for one"
    what = f"with an answer without a thought, under a chat template that {how}: trained as with thinking off, "
    what += "behind an empty thought that carries no loss"
    remedy = "Ask the trained model with thinking off, or write thoughts (reasoning_content)."
    yield from _found("no-thought", "warning" if known.opens else "note", none, what, remedy)


def without_loss(sight: Sight) -> Iterator[Finding]:
    """Find answers that the data gives no loss."""
    rows = (example.row for example in sight.sound if any(not answer.learnt for answer in faults.answered(example)))
    what = "with answers that are not learnt: weight 0, loss or train false, roles_to_train, or part of a prompt"
    return _found("no-loss", "note", rows, what, "Nothing to do where that is meant.")


def typed(sight: Sight) -> Iterator[Finding]:
    """Find messages that type control tokens, which are trained as text."""
    if sight.encoder is None or sight.data.kind == "text":
        return
    rows = [example.row for example in sight.sound if any(map(sight.encoder.typed_in, example.written))]
    what = "with control tokens in a message, which are trained as the text they are"
    remedy = "Take them out where they are remains of a template; nothing to do where they are meant as text."
    yield from _found("control-tokens", "warning", rows, what, remedy)


def moved(sight: Sight) -> Iterator[Finding]:
    """Find rows of which the chat template cannot write all as it stands."""
    if sight.encoder is None or sight.data.kind == "text":
        return
    said: dict[Notice, list[int]] = {}
    for example in sight.sound:
        for notice in sight.encoder.notices(example):
            said.setdefault(notice, []).append(example.row)
    for name, rows in said.items():
        yield from _found(name.replace("_", "-"), "warning", rows, *MOVED[name])


MOVED: dict[Notice, tuple[str, str]] = {
    "system_in_question": (
        "whose system prompt goes in front of the question: the chat template has no place for it",
        "Nothing to do where that is meant, since the chat does the same; a prompt_format has a place.",
    ),
    "turns_left_out": (
        "of which the chat template leaves earlier turns out",
        "Name a prompt_format that writes them, or write rows of one question.",
    ),
}
"""What became of turns that the template has no place for, and the remedy."""


def _unrendered(refused: Mapping[int, str]) -> Iterator[Finding]:
    """Find rows that cannot be rendered, by the reason; together where each has one of its own."""
    reasons: dict[str, list[int]] = {}
    for row, why in refused.items():
        reasons.setdefault(why.rstrip("."), []).append(row)
    if len(reasons) > MOST_REASONS:
        reasons = {f"{next(iter(reasons))}, and the like": [*refused]}
    for why, rows in reasons.items():
        yield from _found("template", "fatal", rows, f"that cannot be rendered: {why}", LEFT_OUT, True)


def cuts(sight: Sight) -> Iterator[Finding]:
    """Find rows over the maximum length, and answers that it cuts off whole."""
    if sight.lengths is None or sight.encoder is None:
        return
    if sight.data.kind == "prompt":  # no prompt is cut: a run whose longest leaves no room for answers is refused
        yield from _unrendered(sight.lengths.refused)
        return
    lengths, asked = sight.lengths, sight.max_length is not None
    yield from _unrendered(lengths.refused)
    maximum = sight.max_length or lengths.recommended
    rows = lengths.over(maximum)
    ends = "their ends" if sight.data.kind == "text" else "the ends of their answers"
    said = f"({lengths.share_over(maximum):.1%}) over {maximum:,} tokens: {ends} are cut"
    remedy = f"A maximum of {lengths.maximum:,} cuts none, {lengths.recommended:,} is recommended."
    yield from _found("too-long", "warning" if asked else "note", rows, said, remedy)
    lost = wholly_cut(sight.data, sight.encoder, rows, maximum)
    said = f"({len(lost) / len(sight.data):.1%}) whose answer lies wholly beyond {maximum:,} tokens"
    yield from _found("cut-answers", "fatal" if asked else "warning", lost, said, f"{remedy} --fix leaves out.", True)


def benchmark(sight: Sight) -> Iterator[Finding]:
    """Find rows that hold a benchmark's questions, or that its texts hold: scores would measure memory."""
    for task, rows in overlaps(sight.sound, sight.benchmark).items():
        what = f"overlapping with questions of {task}"
        remedy = "Leave them out (--fix does), or do not report that score."
        yield from _found("benchmark", "warning", rows, what, remedy, True)


CONTENT: tuple[Check, ...] = (
    _fatal("empty", faults.empty, "without text, or with an empty question", LEFT_OUT),
    _fatal("meaningless", faults.meaningless, "without a letter or digit", LEFT_OUT),
    _fatal("missing-answers", faults.unanswered, "without an answer", ANSWER),
    roles,
    tools,
    _fatal("nothing-learnt", faults.unlearnt, "of which nothing is to be learnt", LEFT_OUT),
    _fatal("same-answers", faults.same, "whose chosen and rejected answers are equal", LEFT_OUT),
    _fatal("half-characters", faults.halved, "with halves of characters (lone surrogates)", "--fix takes them out."),
)
OTHERS: tuple[Check, ...] = (
    *(
        wordless_answers,
        placeholders,
        wrong_encodings,
        decomposed,
        duplicates,
        ratings,
        moved,
        typed,
        thoughts,
        without_loss,
        cuts,
    ),
    benchmark,
)
