"""What the page takes in: the calls that it makes, their size, and by the mode the size and the number of uploads."""

import re
import time
from collections import deque
from collections.abc import Callable

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        elif len(self._recent()) >= self.most:
            await PlainTextResponse(self._too_many(), 429)(scope, receive, send)
        else:
            await self.app(scope, self._held(Headers(scope=scope), receive), send)

    def _is_used(self, path: str) -> bool:
        return bool(USED.fullmatch(path) or (self.largest and FILES.fullmatch(path)))

    def _recent(self) -> deque[float]:
        while self.taken and self.clock() - self.taken[0] > HOUR_S:
            self.taken.popleft()
        return self.taken

    def _too_many(self) -> str:
        return f"More than {self.most} files in an hour. MADANG_UPLOAD_MAX_FILES sets the limit."

    def _held(self, headers: Headers, receive: Receive) -> Receive:
        """Return a `receive` that ends an upload which grows too large, has too many parts or is cut off.

        It raises what Gradio's parser answers with a sentence, after it has deleted what was written by then.
        """
        _, options = parse_options_header(headers.get("content-type", ""))
        mark = b"--" + options.get(b"boundary", b"")
        size, tail, over = 0, b"", False

        async def message() -> Message:
            nonlocal size, tail, over
            came = await receive()
            if over:
                return came
            if came["type"] == "http.disconnect":
                raise MultiPartException("The upload was cut off.")
            body = came.get("body", b"")
            size += len(body)
            if size > self.largest + AROUND_BYTES:
                raise MultiPartException(f"The maximum allowed size of an upload is {self.largest} bytes.")
            self.taken.extend([self.clock()] * (tail + body).count(mark))
            if len(self._recent()) > self.most + 1:  # the last mark begins no file
                raise MultiPartException(self._too_many())
            tail = (tail + body)[1 - len(mark) :]
            over = not came.get("more_body", False)
            if over and self.taken:
                self.taken.pop()
            return came

        return message


def upload_bytes(settings: Settings) -> int:
    """Return how large an uploaded file may be; nought where the mode takes none."""
    return int(settings.upload_max_mb * 1e6) if settings.mode == "local" else 0
