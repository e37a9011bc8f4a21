"""What the page takes in: the calls that it makes, their size, and by the mode the size and the number of uploads."""

import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gradio import route_utils
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.errors import disk_full, refused
from playground.page.words import tooltip
from playground.server.guards.stack import route_path
from playground.settings import Settings

API, UPLOAD = "/gradio_api/", "/gradio_api/upload"
USED = re.compile(
    r"queue/(join|data|status)|run/\w+|cancel|reset|heartbeat/[^/]+|upload"
    r"|info|startup-events|app_id|user|login_check|theme\.css"
)
"""What the page and Gradio's clients ask for. The rest serves what this page has not, and some of it writes files."""
FILES = re.compile(r"upload_progress|file=.+")
"""The same where files are taken and given. `file=` fetches addresses of others, too: nothing for strangers."""
CALL_BYTES = 2_000_000
"""More than the longest question takes, whatever its letters."""
AROUND_BYTES = 100_000
"""What a form has around its files."""
HOUR_S = 3600.0


class Parser(route_utils.GradioMultiPartParser):
    """Gradio's parser, which keeps nothing of an upload that the machine has no room for, and says so."""

    async def parse(self) -> FormData:
        """Write the files of a form; HTTPException with a sentence where they cannot be written."""
        try:
            return await super().parse()
        except OSError as error:
            for file in self._files_to_close_on_error:
                with suppress(OSError):  # what it still holds is written as it closes
                    file.close()
                Path(file.name).unlink(missing_ok=True)
            if (told := refused(error)) is None:
                raise
            raise HTTPException(507 if disk_full(error) else 500, told.message) from error


route_utils.GradioMultiPartParser = Parser  # type: ignore[misc]


class Intake:
    """Passes on what the page asks for; holds bodies to a size, and uploads to a number an hour. A Space takes none."""

    def __init__(self, app: ASGIApp, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self.calls = RequestBodyLimitMiddleware(app, CALL_BYTES)
        self.largest = upload_bytes(settings)
        self.most = settings.upload_max_files
        self.clock = clock
        self.taken: deque[float] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is within the limits; where it is not, a sentence that says so."""
        path = route_path(scope) if scope["type"] == "http" else ""
        if path.startswith(API) and not self._is_used(path.removeprefix(API).rstrip("/")):
            await PlainTextResponse("The page has no such address.", 404)(scope, receive, send)
        elif path.rstrip("/") != UPLOAD:
            await self.calls(scope, receive, send)
        elif not self.largest:
            await PlainTextResponse("This page takes no files.", 403)(scope, receive, send)
        elif self.recent() >= self.most:
            await PlainTextResponse(_too_many(self.most), 429)(scope, receive, send)
        else:
            await self.app(scope, _Upload(self, Headers(scope=scope), receive).receive, send)

    def _is_used(self, path: str) -> bool:
        return bool(USED.fullmatch(path) or (self.largest and FILES.fullmatch(path)))

    def recent(self) -> int:
        """Return how many files have come, or begun to come, within an hour."""
        while self.taken and self.clock() - self.taken[0] > HOUR_S:
            self.taken.popleft()
        return len(self.taken)


class _Upload:
    """The body of one upload as it comes in: ended where it grows too large, has too many files or is cut off.

    It raises what Gradio's parser answers with a sentence, after it has deleted what was written by then.
    """

    def __init__(self, intake: Intake, headers: Headers, receive: Receive) -> None:
        self.intake = intake
        self._receive = receive
        _, options = parse_options_header(headers.get("content-type", ""))
        self._mark = b"--" + options.get(b"boundary", b"")
        self._size = self._marks = 0
        self._tail = b""
        self._over = False

    async def receive(self) -> Message:
        """Return the next message, if it is within the limits."""
        came = await self._receive()
        if self._over:
            return came
        if came["type"] == "http.disconnect":
            raise MultiPartException("The upload was cut off.")
        self._count(came.get("body", b""))
        self._over = not came.get("more_body", False)
        if self._over:
            self._forget(min(1, self._marks))  # the last mark begins no file
        return came

    def _count(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self.intake.largest + AROUND_BYTES:
            raise MultiPartException(f"The maximum allowed size of an upload is {self.intake.largest} bytes.")
        new = (self._tail + body).count(self._mark)
        self._tail = (self._tail + body)[1 - len(self._mark) :]
        self._marks += new
        self.intake.taken.extend([self.intake.clock()] * new)
        if self.intake.recent() > self.intake.most + 1:
            self._forget(self._marks)  # they are deleted, and no one else's place is taken
            raise MultiPartException(_too_many(self.intake.most))

    def _forget(self, files: int) -> None:
        for _ in range(min(files, len(self.intake.taken))):
            self.intake.taken.pop()


def _too_many(most: int) -> str:
    return tooltip("intake.too_many", most=most)


def upload_bytes(settings: Settings) -> int:
    """Return how large an uploaded file may be; nought where the mode takes none."""
    return int(settings.upload_max_mb * 1e6) if settings.mode == "local" else 0
