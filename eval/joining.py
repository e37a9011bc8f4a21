"""Join two runs document by document, and say why that is not possible: paired statistics stand on it."""

from dataclasses import dataclass

from eval.results import Result
from eval.samples import Mark, ResultsError, Sample, by_document


@dataclass(frozen=True)
class Joined:
    """Two runs document by document: only documents that both were asked, in the base's order."""

    base: list[Mark]
    variant: list[Mark]


@dataclass(frozen=True)
class Flip:
    """A document that one of two variants got right and the other wrong."""

    base: Sample
    variant: Sample
    gained: bool


def join(base: Result, variant: Result) -> Joined:
    """Return the documents that both runs were asked; ResultsError with its cause where prompts or answers differ.

    Paired statistics hold only for the same question with the same right answer, which lm-eval's hashes vouch for.
    """
    chosen = base.metric.partition(",")[2]
    mine, theirs = by_document(base.documents.marks, chosen), by_document(variant.documents.marks, chosen)
    common = [key for key in mine if key in theirs]
    if not common:
        raise ResultsError(
            f"{base.variant} and {variant.variant} have no document of {base.task} in common.",
            f"Run both with the same suite, rows and limit ({_differences(base, variant)}).",
        )
    for what, key in (("prompt", "prompt_hash"), ("right answer", "target_hash")):
        other = sum(getattr(mine[k], key) != getattr(theirs[k], key) for k in common)
        if other:
            raise ResultsError(
                f"{base.variant} and {variant.variant} cannot be compared on {base.task}: {other:,} of {len(common):,} "
                f"documents had another {what}.",
                f"Likely cause: {_differences(base, variant)}. Run both the same way.",
            )
    return Joined([mine[key] for key in common], [theirs[key] for key in common])


def flips(base: Result, variant: Result) -> list[Flip]:
    """Return the documents that one run got right and the other wrong, lost ones first."""
    join(base, variant)
    name, _, chosen = base.metric.partition(",")
    mine, theirs = by_document(base.documents.samples(), chosen), by_document(variant.documents.samples(), chosen)
    pairs = [(mine[key], theirs[key]) for key in mine if key in theirs]
    found = [
        Flip(one, other, gained=bool(other.values.get(name)))
        for one, other in pairs
        if bool(one.values.get(name)) != bool(other.values.get(name))
    ]
    return sorted(found, key=lambda flip: flip.gained)


def _differences(base: Result, variant: Result) -> str:
    """Say in what two runs differ, the likeliest cause first."""
    found = []
    if base.shots != variant.shots:
        found.append(f"{base.shots} and {variant.shots} shots")
    if base.chat != variant.chat:
        found.append("one with a chat template, one without")
    if base.system != variant.system:
        found.append("another system instruction")
    for what, one, other in (
        ("lm-eval", base.version, variant.version),
        ("task version", base.task_version, variant.task_version),
    ):
        if one != other:
            found.append(f"{what} {one or 'unknown'} and {other or 'unknown'}")
    if not found and base.n != variant.n:
        found.append(f"{base.n:,} and {variant.n:,} documents, which draws other examples where there are shots")
    return ", ".join(found) or "another prompt text, chat template or source of rows"
