"""Rows of two sets in one, and rows held out for evaluation; the same on every machine.

Order comes from SHA-256, since random number generators may change between versions.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256

from playground.errors import ConfigError
from training.data.examples import Example
from training.data.faults import prompt_key
from training.data.findings import Finding, many
from training.data.formats import Data

SEED = 3407


def mixed(task: Data, general: Data, share: float = 0.2, seed: int = SEED) -> Data:
    """Return the task's rows with so many general ones that they are `share` of the result, all of them shuffled.

    Too few general rows are all used, and a finding says so. Row numbers stay those of either source; what was found
    while reading the general rows names its file.
    """
    if not 0 < share < 1:
        raise ConfigError(f"A share of {share} general rows is no mix.", "Give a number between 0 and 1, such as 0.2.")
    if task.kind != general.kind:
        raise ConfigError(
            f"{task.name} holds {task.kind} rows and {general.name} {general.kind} rows: they do not mix.",
            "Bring both into the same format.",
        )
    wanted = round(len(task) * share / (1 - share))
    chosen = _shuffled(general.examples, f"{seed}/general")[:wanted]
    examples = _shuffled([*task.examples, *chosen], f"{seed}/mixed")
    findings = [*task.findings, *named(general.findings, general)]
    if len(chosen) < wanted:
        reached = len(chosen) / max(1, len(examples))
        what = f"{many(len(chosen))} of {general.name} make {reached:.0%} of the mix; {share:.0%} takes {wanted:,}"
        findings.append(Finding("mix", "note", (), what, "Give more general rows, or ask for a smaller share."))
    return replace(task, examples=examples, name=f"{task.name} + {general.name}", findings=findings)


def named(findings: Iterable[Finding], data: Data) -> list[Finding]:
    """Return findings with the name of their data, to stand beside those of other data."""
    return [replace(found, message=f"{data.name}: {found.message}") for found in findings]


def _shuffled(examples: list[Example], salt: str) -> list[Example]:
    ranks = [sha256(f"{salt}/{place}".encode()).digest() for place in range(len(examples))]
    return [examples[place] for place in sorted(range(len(examples)), key=ranks.__getitem__)]


def held_out(data: Data, part: float, seed: int = SEED) -> tuple[Data, Data]:
    """Return training and evaluation rows: `part` below 1 is a share of the rows to hold out, from 1 on their number.

    Rows that ask the same stay on one side. Which side a question falls on does not depend on the other rows' order.
    """
    wanted = round(part * len(data)) if part < 1 else int(part)
    if not 0 < wanted < len(data):
        raise ConfigError(
            f"Holding out {part} of {many(len(data))} leaves one side empty.",
            "Give a share such as 0.05, or a number smaller than that of the rows.",
        )
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, example in enumerate(data.examples):
        groups[prompt_key(example)].append(place)
    held: set[int] = set()
    for _, places in sorted(groups.items(), key=lambda group: sha256(f"{seed}/".encode() + group[0]).digest()):
        if len(held) + len(places) <= wanted:
            held.update(places)
    if not held:
        raise ConfigError(
            f"{data.name} asks the same in so many rows that none of its questions fits into {many(wanted)}.",
            "Hold out more rows, or name a file of its own for evaluation.",
        )
    sides = [[e for place, e in enumerate(data.examples) if (place in held) == out] for out in (False, True)]
    return replace(data, examples=sides[0]), replace(data, examples=sides[1], findings=[])
