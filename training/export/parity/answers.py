"""Step 4: greedy answers to fixed questions, and the token at which each first parts from its source's."""

from collections.abc import Sequence
from dataclasses import dataclass

from playground.measure.probe import Probe
from playground.presets import Sampling
from playground.prompts import PromptFormat, render
from playground.protocol import Vocabulary
from training.export.parity import prompts
from training.export.parity.text import parting, quoted
from training.export.parity.thresholds import thresholds
from training.export.parity.verdict import Step

SHOWN = 60


@dataclass(frozen=True)
class Answers:
    """The texts of the answers, whether each ended by itself."""

    variant: str
    texts: list[str]
    ended: list[bool]


def answers(probe: Probe, form: PromptFormat | None, words: Vocabulary) -> Answers:
    """Return greedy answers through the template, or raw continuations without one; all decode together."""
    asked = [_prompt(turns, form, words) for turns in prompts.questions()]
    greedy = Sampling(temperature=0.0, repetition_penalty=1.0, max_new_tokens=thresholds().answers.tokens)
    done = dict(probe.complete(asked, greedy))
    rows = [done[number] for number in range(len(asked))]
    return Answers(probe.variant, [row.text for row in rows], [row.reason == "stop" for row in rows])


def compare(source: Answers, built: Answers, ids: "Sequence[tuple[list[int], list[int]]]", is_coarse: bool) -> Step:
    """Find where answers part, in the source's tokens; `ids` holds both answers to each question."""
    step = Step()
    partings = [None if ours == theirs else parting(ours, theirs) for ours, theirs in ids]
    same = sum(place is None for place in partings)
    step.numbers = {"answers": len(partings), "same": same, "first_parting": partings}
    step.note(f"{same} of {len(partings)} greedy answers are the same for {thresholds().answers.tokens} tokens.")
    for number, place in enumerate(partings):
        if place is not None:
            ours, theirs = (quoted(side.texts[number], 0, SHOWN) for side in (source, built))
            step.note(f"Answer {number + 1} parts at token {place}: {theirs} (source: {ours}).")
    limit = thresholds().answers.early
    early = sum(place is not None and place < limit for place in partings)
    if not is_coarse and early > len(partings) / 2:
        step.warn("weights", f"{early} of {len(partings)} answers part within {limit} tokens.")
    _judge_ends(source, built, step)
    return step


def _judge_ends(source: Answers, built: Answers, step: Step) -> None:
    if not any(built.texts) and all(built.ended) and any(source.texts):
        step.fail("bos-eos", "Every answer is empty.")
    elif any(source.ended) and all(source.ended) and not any(built.ended):
        step.warn("bos-eos", "The source ends its answers, and this build does not.")


def _prompt(turns: prompts.Turns, form: PromptFormat | None, words: Vocabulary) -> str:
    return turns[-1].content if form is None else render(form, turns, words.tokens)
