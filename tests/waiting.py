"""Waits of more than one folder of tests."""

import time

from playground.settings import Settings
from playground.system import jobs


def ended(settings: Settings, job: jobs.Job) -> jobs.Job:
    """A job as it stands once it no longer runs."""
    deadline = time.monotonic() + 30
    while (found := jobs.find(settings, job.id)).active:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
