"""What a parity check found: findings of single steps, and the verdict put together from them. Compares nothing."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from playground.measure.drift import Drift
from playground.values import Value

Grade = Literal["pass", "warn", "fail"]
Cause = Literal[
    "template", "bos-eos", "vocabulary", "hyperparameters", "weights", "merge", "quantization", "swallowed", "file"
]
"""`swallowed`: the adapter was merged rightly, and the type of the file is too coarse to hold its change."""


@dataclass(frozen=True)
class Finding:
    """One sentence for people, how bad it is, and the likely cause where it is bad."""

    grade: Grade
    sentence: str
    cause: Cause | None = None


@dataclass
class Step:
    """What one of the four steps found, and its numbers."""

    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """Add a sentence that complains of nothing."""
        self.findings.append(Finding("pass", sentence))

    def warn(self, cause: Cause, sentence: str) -> None:
        """Add something odd that may be meant."""
        self.findings.append(Finding("warn", sentence, cause))

    def fail(self, cause: Cause, sentence: str) -> None:
        """Add something broken."""
        self.findings.append(Finding("fail", sentence, cause))

    @property
    def failed(self) -> bool:
        """Whether later steps would only repeat what is known."""
        return any(finding.grade == "fail" for finding in self.findings)


class Arrived(Value):
    """What share of an adapter's change a build holds: of all, by storage type, by layer.

    `on_steps`: the base lies on the steps of these types already; `finer`: what other types would hold. Both are looked
    for only where rounding swallowed it.
    """

    all: float
    types: dict[str, float] = {}
    layers: dict[str, float] = {}
    on_steps: bool = False
    finer: dict[str, float] = {}


class Verdict(Value):
    """Whether an export behaves like its source: the worst grade, its causes, all sentences, the numbers by step.

    A row of parity.json is this, so what older versions left out has a default.
    """

    verdict: Grade
    causes: list[Cause] = []
    lines: list[str] = []
    numbers: dict[str, Any] = {}

    def step(self, name: str) -> dict[str, Any]:
        """Return the numbers of one of the four steps; empty where it was not reached."""
        return dict(self.numbers.get(name) or {})

    @property
    def arrived(self) -> Arrived | None:
        """What share of the adapter's change is in it; None where that was not measured."""
        with suppress(ValidationError):
            return Arrived.model_validate(self.step("files").get("arrived"))
        return None

    @property
    def drift(self) -> Drift | None:
        """How far its distributions lie from its parent's; None where they were not compared."""
        with suppress(ValidationError):
            return Drift.model_validate({key: self.step("numbers").get(key) for key in Drift.model_fields})
        return None


def verdict_of(findings: list[Finding], numbers: dict[str, Any]) -> Verdict:
    """Return the worst of the findings; its causes in the order they were found, without those of milder ones."""
    grades = {finding.grade for finding in findings}
    worst: Grade = "fail" if "fail" in grades else "warn" if "warn" in grades else "pass"
    causes = [f.cause for f in findings if f.cause is not None and f.grade == worst]
    lines = [finding.sentence for finding in findings]
    return Verdict(verdict=worst, causes=list(dict.fromkeys(causes)), lines=lines, numbers=numbers)
