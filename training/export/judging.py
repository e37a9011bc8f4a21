"""The seam to parity: asked once a build, opened when the first is due. Compares nothing itself."""

from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from playground.settings import Settings
from training.export.plan import Wanted
from training.export.registering import Built
from training.export.watching import Progress

PARITY = "training.export.parity"


class Judge:
    """Holds builds against their source; a context, in which the source is asked only once."""

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings, self._source = settings, source
        self._stack = ExitStack()
        self._session: Any = None

    def __enter__(self) -> "Judge":
        """Nothing is loaded yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of what was loaded."""
        self._stack.close()

    def verdict(self, built: Built, wanted: Wanted, reference: Built | None, progress: Progress) -> dict[str, Any]:
        """The verdict on one build, as JSON values: verdict (pass, warn, fail), causes, lines, numbers."""
        if self._session is None:
            opened = import_module(PARITY).session(self._settings, self._source)
            self._session = self._stack.enter_context(opened)
        level = wanted.label if wanted.kind == "gguf" else ""
        found = self._session.check(built, wanted.kind, level, reference, progress)
        row: dict[str, Any] = found.as_json()
        return row


def judge(settings: Settings, source: str) -> Judge | None:
    """A judge of the builds of one adapter variant; None where this version brings no parity checks."""
    return Judge(settings, source) if find_spec(PARITY) and hasattr(import_module(PARITY), "session") else None
