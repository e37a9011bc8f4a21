"""What a browser may do with what it gets from the page: a Content-Security-Policy for each kind of answer."""

import base64
import hashlib
import re
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.server.guards.stack import route_path
from playground.settings import Settings

WRITTEN_OUT = re.compile(r"<(script|style)(?![^>]*\ssrc=)[^>]*>(.*?)</\1>", re.DOTALL)
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
"""For what is no page: files, and the answers to calls, if somebody opens them as one."""
OWN_FILES = ("/assets/", "/static/", "/svelte/")
"""Gradio's own: a worker takes its policy from its script."""
HUB = "https://huggingface.co"
"""Shows a Space in a frame, and Gradio shows its owner's picture there."""


class Policy:
    """Says with every page that its own scripts run and no others, and with everything else that it is no page.

    Stands inside of what compresses answers: a page's written-out scripts are known by their hashes. Gradio makes
    functions of text (`js`, `js_on_load`) and sets styles, so eval and inline styles stay allowed.
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
                if message.get("more_body", False):
                    return
                body = b"".join(part.get("body", b"") for part in waiting[1:])
                _guard(waiting[0], self.page(body.decode("utf-8", "replace")))
                for kept in waiting:
                    await send(kept)
                waiting.clear()
                return
            await send(message)

        await self.app(scope, receive, sending)

    def page(self, html: str) -> str:
        """Return the policy of a page."""
        hub = f" {HUB}" if self.in_space else ""
        rules = {
            "default-src": "'self'",
            "script-src": f"'self' 'unsafe-eval' {hashes(html + self.head, 'script')}",
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
