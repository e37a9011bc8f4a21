"""Rows of the lists under Train and Export: a folder of long work, the newest job that worked on it, or both."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from playground.catalogue.templates import can_chat
from playground.catalogue.variants import load_or_none
from playground.page import cards
from playground.settings import Settings
from playground.system.jobs import Job
from training.run.folders import Folder, Progress

F = TypeVar("F", bound=Folder[Any])
R = TypeVar("R", bound="Row[Any]")
EARLIER = 8
Asked = Callable[[str], bool]
"""Whether the variant of that name can be asked in Chat."""


@dataclass(frozen=True)
class Row(Generic[F]):
    """A run or an export: its folder, the newest job that worked on it, or both; one of them may be missing."""

    folder: F | None
    job: Job | None

    @property
    def name(self) -> str:
        """Return what the page calls it by."""
        return self.folder.name if self.folder else self.job.id if self.job else ""

    @property
    def started(self) -> float:
        """Return when it was last set going."""
        return self.job.started if self.job else float(self.folder.state().started) if self.folder else 0.0

    @property
    def owner(self) -> str:
        """Return the browser that set it going; empty for one of the terminal's."""
        return str(self.job.about.get("owner", "")) if self.job else ""

    def error(self) -> tuple[str, str]:
        """Return message and hint of what ended it."""
        state = self.folder.state() if self.folder else None
        if state and state.status == "failed" and state.message:
            return state.message, state.hint
        return self.job.last_words() if self.job else ("", "")

    @classmethod
    def joined(cls, folders: Mapping[str, F], jobs: Iterable[Job], key: str) -> list[Self]:
        """Return a row for each folder with its newest job, and one for each job that came to none, the newest first.

        A job says under `key` which folder it works on.
        """
        newest: dict[str, Job] = {}
        alone = []
        for job in jobs:
            where = folder_of(job, key)
            if where in folders:
                newest.setdefault(where, job)
            else:
                alone.append(cls(None, job))
        rows = [cls(folder, newest.get(where)) for where, folder in folders.items()]
        return sorted([*rows, *alone], key=lambda row: row.started, reverse=True)


def folder_of(job: Job, key: str) -> str:
    """Return which `run` or `export` a job works on, as its command says or as it was begun; empty: none yet."""
    return str(getattr(job.progress(Progress), key) or job.about.get(key, ""))


def chosen(rows: Sequence[R], viewed: str, owner: str) -> R | None:
    """Return the row that is viewed, or else the newest that no other browser set going; None where there is none."""
    found = (row for row in rows if row.name == viewed)
    return next(found, None) or next((row for row in rows if row.owner in ("", owner)), None)


def earlier(rows: Sequence[R], title: str, line: Callable[[R], str]) -> str:
    """Return HTML of the rows that have a folder, one line each."""
    return cards.earlier(title, [line(row) for row in rows if row.folder][:EARLIER])


def can_be_asked(settings: Settings, name: str) -> bool:
    """Return whether a variant can be asked in Chat: one of the catalogue without a template cannot."""
    catalogue = load_or_none(settings)
    return catalogue is None or name not in catalogue.names or can_chat(catalogue.get(name), catalogue)
