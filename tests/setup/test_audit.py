"""The audit of the pinned versions: a known fault fails, and having nobody to ask does not, but is said."""

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.setup.checkout import SCRIPTS
from tests.setup.test_checks import recipe

FAULT = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": "long"}
SOUND = {"name": "sound", "version": "1.0", "vulns": []}
FAULTY = {"name": "faulty", "version": "1.0", "vulns": [FAULT, {**FAULT, "fix_versions": []}]}
SKIPPED = {"name": "unknown", "skip_reason": "not found on PyPI"}


@pytest.mark.parametrize(
    ("report", "ended", "code", "said"),
    [
        ([SOUND], 0, 0, ["Audited: 1 of 1 packages, 0 known faults"]),
        ([SOUND, FAULTY], 1, 1, ["faulty 1.0: PYSEC-2026-1, mended in 1.1", "mended in no version yet", "2 of 2"]),
        ([SKIPPED, SOUND], 0, 0, ["Not audited: 1 packages. not found on PyPI", "Audited: 1 of 2 packages, 0 known"]),
        ([SKIPPED, SKIPPED], 0, 0, ["Not audited: 2 packages. not found on PyPI"]),
        (None, 1, 0, ["Not audited: ProxyError: nobody there"]),
        (None, 2, 2, ["Not audited: ProxyError: nobody there"]),
    ],
)
def test_what_is_known_fails_and_what_cannot_be_asked_is_said(
    report: list[Any] | None,
    ended: int,
    code: int,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if report is not None:
            Path(command[-1]).write_text(json.dumps({"dependencies": report}), encoding="utf-8")
        return subprocess.CompletedProcess(command, ended, "", "Traceback\nProxyError: nobody there\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    assert importlib.import_module("audit").main() == code
    out = capsys.readouterr().out
    assert [part for part in said if part not in out] == []
    assert ("known faults" in out) == any("vulns" in one for one in report or ())  # none known is not none asked


def test_secrets_are_looked_for_everywhere() -> None:
    looked = [command for command in recipe("audit") if "$(SECRETS)" in command]
    assert ["':!tests'" in one for one in looked] == [True, False]
