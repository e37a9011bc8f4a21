"""llama.cpp's error lines, which it gives to a C callback alone."""

import ctypes
import sys

import llama_cpp.llama_cpp as lib

ERROR_LEVEL = 4


class _Log:
    """llama.cpp's error lines. C keeps calling the function for as long as the process lives, so it is never freed."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._callback = lib.llama_log_callback(self._take)

    def listen(self) -> list[str]:
        """The list that the next error lines are added to, empty now."""
        self._lines = []
        lib.llama_log_set(self._callback, ctypes.c_void_p(0))
        return self._lines

    def _take(self, level: int, text: bytes, data: object) -> None:
        line = text.decode(errors="replace").strip()
        if level >= ERROR_LEVEL and line:
            self._lines.append(line)
            del self._lines[:-10]
            sys.stderr.write(line + "\n")


LOG = _Log()
