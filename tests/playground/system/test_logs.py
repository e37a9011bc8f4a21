"""How a log ends: its last words, and the error in it."""

from pathlib import Path

import pytest

from playground.system.logs import error_line, last_line


@pytest.mark.parametrize(
    ("text", "line", "error"),
    [
        ("loading\nhint: look\nerror: no model\n", "error: no model", "error: no model"),
        ("error: first\nerror: no model\nllama: cleaning up\n\n", "llama: cleaning up", "error: no model"),
        ("10 %\r20 %\n", "20 %", "20 %"),
        ("", "", ""),
    ],
)
def test_an_error_is_found_before_what_native_code_writes_after_it(
    text: str, line: str, error: str, tmp_path: Path
) -> None:
    log = tmp_path / "x.log"
    log.write_text(text, newline="")
    assert (last_line(log), error_line(log)) == (line, error)
    assert error_line(tmp_path / "none") == ""
