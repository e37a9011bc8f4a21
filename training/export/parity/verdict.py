"""What a parity check found: findings of single steps, and the verdict put together from them. Compares nothing."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Outcome = Literal["pass", "warn", "fail"]
Cause = Literal["template", "bos-eos", "vocabulary", "hyperparameters", "weights", "merge", "quantization", "file"]


@dataclass(frozen=True)
class Finding:
    """One sentence for people, how bad it is, and the likely cause where it is bad."""

    outcome: Outcome
    sentence: str
    cause: Cause | None = None


@dataclass
class Step:
    """What one of the four steps found, and its numbers."""

    findings: list[Finding] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        """A sentence that complains of nothing."""
        self.findings.append(Finding("pass", sentence))

    def warn(self, cause: Cause, sentence: str) -> None:
        """Something odd that may be meant."""
        self.findings.append(Finding("warn", sentence, cause))

    def fail(self, cause: Cause, sentence: str) -> None:
        """Something broken."""
        self.findings.append(Finding("fail", sentence, cause))

    @property
    def failed(self) -> bool:
        """Whether later steps would only repeat what is known."""
        return any(finding.outcome == "fail" for finding in self.findings)


class Verdict(BaseModel):
    """Whether an export behaves like its source: the worst finding, its causes, all sentences, all numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Outcome
    causes: list[Cause]
    lines: list[str]
    numbers: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json")


def verdict_of(findings: list[Finding], numbers: dict[str, Any]) -> Verdict:
    """The worst of the findings; its causes in the order they were found, without those of milder ones."""
    outcomes = {finding.outcome for finding in findings}
    worst: Outcome = "fail" if "fail" in outcomes else "warn" if "warn" in outcomes else "pass"
    causes = [f.cause for f in findings if f.cause is not None and f.outcome == worst]
    lines = [finding.sentence for finding in findings]
    return Verdict(verdict=worst, causes=list(dict.fromkeys(causes)), lines=lines, numbers=numbers)
