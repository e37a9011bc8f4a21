"""Whether an export behaves like the variant it came from, and if not, what probably broke. Writes nothing."""

from typing import TYPE_CHECKING

from playground.settings import Settings
from training.export.parity.verdict import Cause, Grade, Verdict

if TYPE_CHECKING:
    from training.export.parity.sessions import Session

__all__ = ["Cause", "Grade", "Verdict", "session"]


def session(settings: Settings, source_variant: str) -> "Session":
    """Open a context in which builds of one variant of the catalogue are checked; the variant is asked only once."""
    from training.export.parity.sessions import Session  # it needs numpy, which readers of verdicts do without

    return Session(settings, source_variant)
