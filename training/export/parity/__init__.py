"""Whether an export behaves like the variant it came from, and if not, what probably broke. Writes nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from playground.catalogue.variants import Adapter, Base, Gguf
from playground.settings import Settings
from training.export.parity.verdict import Cause, Outcome, Verdict

if TYPE_CHECKING:
    from training.export.parity.sessions import Session

__all__ = ["Cause", "Outcome", "Verdict", "check", "session"]


def check(
    settings: Settings,
    source_variant: str,
    built_variant: Base | Adapter | Gguf,
    kind: str,
    level: str = "",
    reference: Base | Adapter | Gguf | None = None,
    progress: Callable[[float, str], None] = lambda done, what: None,
) -> Verdict:
    """The verdict on one build of a variant in the catalogue.

    `kind` is merged, gguf, gptq or adapter; `level` a GGUF's type; `reference` the F16 build that a coarser one is
    measured from (None: the source). For several builds of one source take a `session`: it asks the source once.
    """
    with session(settings, source_variant) as opened:
        return opened.check(built_variant, kind, level, reference, progress)


def session(settings: Settings, source_variant: str) -> "Session":
    """A context in which `check` can be called for many builds of one source."""
    from training.export.parity.sessions import Session

    return Session(settings, source_variant)
