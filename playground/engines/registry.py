"""Rows of the catalogue that last as long as an engine: added when it is ready, taken out when it ends.

What a process added is written down in `engines/PID.json` of the data folder. A process that was killed takes nothing
out; the next one to start an engine does.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from playground.catalogue import variants
from playground.catalogue.variants import Catalogue, Remote
from playground.errors import MadangError, VariantError
from playground.settings import Settings
from playground.system.atomic import write_beside
from playground.system.processes import ProcessId
from playground.wording import worded


class Registration:
    """The rows that this process added. Rows that were there before, or that someone has changed, are left alone."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._added: list[Remote] = []
        self._record = _folder(settings) / f"{os.getpid()}.json"

    def add(self, rows: Iterable[Remote]) -> None:
        """Write rows into the user's catalogue; one that stands there already, word for word, stays as it is.

        A row is remembered before it stands there: a kill in between leaves nothing that no one sweeps.
        """
        for row in rows:
            if not _stands(self.settings, row):
                self._added.append(row)
                self._remember()
                variants.add(self.settings, row)

    def remove(self) -> list[str]:
        """Take the rows out again; return a sentence for each that could not be."""
        faults = [fault for row in self._added if (fault := _take_out(self.settings, row))]
        self._added = []
        self._record.unlink(missing_ok=True)
        return faults

    def keep(self) -> None:
        """Leave the rows in the catalogue when this process ends."""
        self._added = []
        self._record.unlink(missing_ok=True)

    def _remember(self) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        rows = [row.model_dump() for row in self._added]
        write_beside(self._record, json.dumps({"born": ProcessId.of().born, "rows": rows}))


def check_names(settings: Settings, rows: Iterable[Remote]) -> None:
    """Refuse names that other variants have, before anything starts."""
    catalogue = Catalogue.load(settings)
    names: set[str] = set()
    for row in rows:
        taken = row.name in names or (row.name in catalogue.names and catalogue.get(row.name) != row)
        if taken:
            raise VariantError(
                worded("registry.variant_named_already", row=row.name),
            )
        names.add(row.name)


def sweep(settings: Settings) -> None:
    """Take out the rows of engines whose process is gone."""
    for record in _folder(settings).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(record.read_text(encoding="utf-8"))
            if ProcessId(int(record.stem), float(told["born"])).alive:
                continue
            for row in told["rows"]:
                _take_out(settings, Remote.model_validate(row))
            record.unlink(missing_ok=True)


def _folder(settings: Settings) -> Path:
    return settings.data / "engines"


def _stands(settings: Settings, row: Remote) -> bool:
    catalogue = Catalogue.load(settings)
    return row.name in catalogue.names and catalogue.get(row.name) == row


def _take_out(settings: Settings, row: Remote) -> str:
    """Remove a row that is still as it was added; return what went wrong, or nothing."""
    try:
        if _stands(settings, row):
            variants.remove(settings, row.name)
    except (MadangError, OSError) as error:  # the person may be editing the file just now
        return f"{row.name} is still in the catalogue: {error} Remove it with `madang models remove {row.name}`."
    return ""
