"""Step 2: what texts and conversations become: rendered template, token ids, one BOS at most, ends. Runs no layer."""

from collections.abc import Sequence
from dataclasses import dataclass

from playground.errors import VariantError
from playground.measure.probe import Probe
from playground.messages import Message
from playground.prompts import PromptFormat, render
from playground.protocol import Vocabulary
from training.export.parity import prompts
from training.export.parity.verdict import Step

SHOWN = 40
BEFORE = 8
"""Characters quoted, and how many of them before the place."""


@dataclass(frozen=True)
class Reads:
    """What one side makes of the fixed prompts.

    `rendered` None: no template. `chats` are encoded as Madang does, `careless` as a program that adds BOS whatever
    the template brought.
    """

    words: Vocabulary
    rendered: list[str] | None
    chats: list[list[int]]
    careless: list[list[int]]
    plain: list[list[int]]


def reads(probe: Probe, words: Vocabulary, form: PromptFormat | None) -> Reads:
    """Ask one side's worker, which native code may abort: WorkerError then."""
    rendered = None if form is None else _rendered(form, words)
    careless = probe.encode(rendered or [], add_special=True)
    chats = probe.encode(rendered or [], add_special=False)
    return Reads(words, rendered, chats, careless, probe.encode(prompts.texts(), add_special=True))


def compare(source: Reads, built: Reads) -> Step:
    """Find every difference between the two, with its likely cause."""
    step = Step()
    _compare_templates(source, built, step)
    _compare_begins(source, built, step)
    if not step.failed:
        _compare_ids(source, built, step)
    _compare_ends(source.words, built.words, step)
    if not step.failed:
        step.numbers = {"conversations": len(built.chats), "tokens": sum(map(len, [*built.chats, *built.plain]))}
        step.note(f"{len(built.chats)} rendered conversations and {len(built.plain)} texts are the same tokens.")
    return step


def _rendered(form: PromptFormat, words: Vocabulary) -> list[str]:
    """Render every conversation with its answer opened, and the first without; "" where the template refuses one."""
    asked = [(turns, True) for turns in prompts.conversations()] + [(prompts.conversations()[0], False)]
    return [_render(form, turns, words, opened) for turns, opened in asked]


def _render(form: PromptFormat, turns: Sequence[Message], words: Vocabulary, opened: bool) -> str:
    try:
        return render(form, turns, words.tokens, opened)
    except VariantError:
        return ""


def _compare_templates(source: Reads, built: Reads, step: Step) -> None:
    if source.rendered is None or built.rendered is None:
        if source.rendered is not None:
            step.fail("template", "The chat template is missing.")
        elif built.rendered is not None:
            step.warn("template", "It has a chat template, and its source has none.")
        return
    want, got = next(((a, b) for a, b in zip(source.rendered, built.rendered, strict=True) if a != b), ("", ""))
    bos = built.words.bos
    if bos and want and got == bos + want:
        step.fail("bos-eos", f"The chat template writes BOS ({bos}) once more than its source's.")
    elif want != got:
        place = max(0, parting(want, got) - BEFORE)
        step.fail(
            "template", f"The chat template renders {quoted(got, place)}, and {quoted(want, place)} in the source."
        )


def _compare_begins(source: Reads, built: Reads, step: Step) -> None:
    """Compare how often BOS is put: as often as by the source, and never twice where that puts it once."""
    bos = built.words.bos
    names = ("texts", "conversations", "conversations encoded with BOS asked for")
    for name, want, got in zip(names, _begins(source), _begins(built), strict=True):
        if want != got and not step.failed:
            step.fail("bos-eos", f"{name.capitalize()} begin with {got} BOS ({bos}), and with {want} in the source.")


def _begins(side: Reads) -> list[int]:
    """Count the BOS at the beginning: at most over the texts, the chats, the careless chats."""
    bos = side.words.prefix if side.words.bos else -1
    return [max((_leading(ids, bos) for ids in rows), default=0) for rows in (side.plain, side.chats, side.careless)]


def _leading(ids: list[int], token: int) -> int:
    return next((place for place, number in enumerate(ids) if number != token), len(ids))


def _compare_ids(source: Reads, built: Reads, step: Step) -> None:
    written = prompts.texts() + (source.rendered or [])
    wants, gots = source.plain + source.chats, built.plain + built.chats
    wrong = [(text, w, g) for text, w, g in zip(written, wants, gots, strict=False) if w != g]
    if wrong:
        text, want, got = wrong[0]
        place = parting(want, got)
        step.fail(
            "vocabulary",
            f"{len(wrong)} of {len(wants)} texts become other tokens: {quoted(text, 0)} has {got[place : place + 3]} "
            f"at place {place}, and {want[place : place + 3]} in the source.",
        )


def _compare_ends(source: Vocabulary, built: Vocabulary, step: Step) -> None:
    if source.eos and source.eos_id != built.eos_id:
        theirs, ours = f"{built.eos!r} ({built.eos_id})", f"{source.eos!r} ({source.eos_id})"
        step.fail("bos-eos", f"EOS is {theirs}, and {ours} in the source: answers may not end.")
    if source.bos and built.bos and source.bos != built.bos:
        step.fail("bos-eos", f"BOS is {built.bos!r}, and {source.bos!r} in the source.")


def parting(want: Sequence[object], got: Sequence[object]) -> int:
    """Return the first place at which two sequences differ."""
    different = (place for place, (a, b) in enumerate(zip(want, got, strict=False)) if a != b)
    return next(different, min(len(want), len(got)))


def quoted(text: str, place: int, shown: int = SHOWN) -> str:
    """Return a short piece of a text, from a place on, in quotation marks."""
    piece = text[place : place + shown]
    return repr(piece + ("…" if len(text) > place + shown else ""))
