"""How a page leaves: with its own head, packed, and with what a browser may do with it and with every other answer."""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.server.guards.stack import route_path
from playground.settings import Settings

WRITTEN_OUT = re.compile(r"<(script|style)(?![^>]*\ssrc=)[^>]*>(.*?)</\1>", re.DOTALL)
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""For what is no page: files, and the answers to calls, if somebody opens them as one."""
OWN_FILES = ("/assets/", "/static/", "/svelte/")
"""Gradio's own: a worker takes its policy from its script."""
OURS = "window.gradio_config"
"""Stands in the page alone, and in no other HTML."""
PACKED = 5
"""gzip's level: half a megabyte of page becomes 70 kB in 15 ms."""
HUB = "https://huggingface.co"
"""Shows a Space in a frame, and Gradio shows its owner's picture there."""


class Policy:
    """Says with every page that its own scripts run and no others, and with everything else that it is no page.

    A page's written-out scripts are known by their hashes. Gradio makes functions of text (`js`, `js_on_load`) and sets
    styles, so eval and inline styles stay allowed. Gradio's own scripts would bring `head` once they run: written into
    the page, it draws the first frame.
    """

    def __init__(self, app: ASGIApp, settings: Settings, head: str) -> None:
        self.app = app
        self.in_space = settings.mode == "space"
        self.head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with the headers; a page is sent once it is whole."""
        waiting: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                _guard(message, "" if route_path(scope).startswith(OWN_FILES) else NOTHING)
                if "text/html" in MutableHeaders(scope=message).get("content-type", ""):
                    waiting.append(message)
                    return
            elif waiting:
                waiting.append(message)
                if not message.get("more_body", False):
                    for whole in self._whole(waiting, Headers(scope=scope).get("accept-encoding", "")):
                        await send(whole)
                    waiting.clear()
                return
            await send(message)

        await self.app(scope, receive, sending)

    def _whole(self, waiting: list[Message], reads: str) -> Iterable[Message]:
        start, body = waiting[0], b"".join(part.get("body", b"") for part in waiting[1:])
        html = body.decode("utf-8", "replace")
        headers = MutableHeaders(scope=start)
        if OURS in html:
            html = html.replace("</head>", self.head + "</head>", 1)
            body = html.encode()
            headers["vary"] = "accept-encoding"
            if "gzip" in reads:
                headers["content-encoding"] = "gzip"
                body = gzip.compress(body, PACKED, mtime=0)
        headers["content-length"] = str(len(body)) if body else headers.get("content-length", "0")  # HEAD has no body
        _guard(start, self.page(html))
        return start, {"type": "http.response.body", "body": body}

    def page(self, html: str) -> str:
        """Return the policy of a page."""
        hub = f" {HUB}" if self.in_space else ""
        rules = {
            "default-src": "'self'",
            "script-src": f"'self' 'unsafe-eval' {hashes(html, 'script')}",
            "style-src": "'self' 'unsafe-inline'",
            "img-src": f"'self' data: blob:{hub}",
            "font-src": "'self' data:",
            "media-src": "'self' data: blob:",
            "worker-src": "'self' blob:",
            "connect-src": f"'self'{hub}",
            "frame-src": "'none'",
            "object-src": "'none'",
            "base-uri": "'self'",
            "form-action": "'self'",
            "frame-ancestors": f"'self'{hub}",
        }
        return _written(rules.items())


def form(html: str) -> str:
    """Return the policy of a page that is a form and nothing more."""
    rules = {"default-src": "'none'", "style-src": hashes(html, "style"), "base-uri": "'none'"}
    return _written((rules | {"form-action": "'self'", "frame-ancestors": "'self'"}).items())


def hashes(html: str, kind: str) -> str:
    """Return the hashes of a page's written-out scripts or styles, as a policy names them."""
    texts = [text for tag, text in WRITTEN_OUT.findall(html) if tag == kind]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in dict.fromkeys(digests))


def _written(rules: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name} {value}" for name, value in rules)


def _guard(start: Message, policy: str) -> None:
    headers = MutableHeaders(scope=start)
    headers["x-content-type-options"] = "nosniff"
    headers["referrer-policy"] = "same-origin"
    if policy:
        headers["content-security-policy"] = policy
