"""Who may come onto the page: with keys set, whoever signs in with one; without, this machine's own browser.

It stands in front of every path but the API's, which has guards of its own: Gradio's queue, uploads and files, too.
"""

import asyncio
import hmac
from hashlib import sha256
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.page.words import words
from playground.server.guards.keys import ONLY, SET_A_KEY, Keyring, Place, bearer, of_another_site, read_keys
from playground.server.guards.stack import is_guarded, route_path
from playground.settings import Settings
from playground.ui import policy
from playground.wording import LANGUAGES, Language

COOKIE = "madang"
OPEN = "/health"
FORM = Template(Path(__file__).with_name("door.html").read_text(encoding="utf-8"))
SEND_A_KEY = "Sign in on the page, or send a key as `Authorization: Bearer KEY`."
LONGEST_KEY = 4096
PAUSE_S = 0.5
"""After a wrong key; the next one is tried no sooner."""


def shut(app: FastAPI, settings: Settings) -> None:
    """Put the door in front of an app. A Space is open: its mode offers what anybody may do."""
    if settings.mode == "local":
        app.add_middleware(Door, keys=read_keys(settings), settings=settings)


class Door:
    """Passes on requests to the page from those who may use it; the first one with a key gets a cookie."""

    def __init__(self, app: ASGIApp, keys: tuple[SecretStr, ...], settings: Settings) -> None:
        self.app = app
        self._keyring = Keyring(keys)
        self._tokens = [_token(key) for key in keys]
        self._place = Place(settings.host)
        self._language = settings.language
        self._wrong = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, ask for a key, or refuse."""
        passes = scope["type"] == "lifespan" or is_guarded(route_path(scope)) or route_path(scope) == OPEN
        answer = None if passes else await self._answer(scope, receive)
        if answer is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """Return what is answered instead of the page; None where the page answers."""
        came = HTTPConnection(scope)
        if not self._tokens:
            fault = self._place.fault(came.client.host if came.client else "", came.headers)
            if fault == "origin" and _is_link(scope, came.headers):
                return None
            return _refusal(f"Without a key the page {ONLY[fault]}. {SET_A_KEY}") if fault else None
        if self._signed_in(came):
            foreign = of_another_site(came.headers) and not _is_link(scope, came.headers)
            return _refusal("The page serves no page of another site.") if foreign else None
        if scope["type"] == "http" and _is_form(came.headers):
            return await self._sign_in(Request(scope, receive))
        return self._form(came) if "text/html" in came.headers.get("accept", "") else _refusal(SEND_A_KEY, 401)

    def _signed_in(self, came: HTTPConnection) -> bool:
        token = came.cookies.get(COOKIE, "").encode("utf-8", "surrogateescape")
        known = [hmac.compare_digest(token, one.encode()) for one in self._tokens]
        return any(known) or self._keyring.number(bearer(came.headers)) is not None

    async def _sign_in(self, asked: Request) -> Response:
        """Answer a form with a key in it: the right one gets the cookie, a wrong one the form again, after a while."""
        number = self._keyring.number(await _given(asked))
        if number is None:
            async with self._wrong:
                await asyncio.sleep(PAUSE_S)
            return self._form(asked, wrong=True)
        here = "./" + asked.url.path.rpartition("/")[2]  # a proxy may serve the page below a path that we do not see
        answer = RedirectResponse(here, 303)
        answer.set_cookie(
            COOKIE, self._tokens[number - 1], httponly=True, samesite="lax", secure=asked.url.scheme == "https"
        )
        return answer

    def _form(self, came: HTTPConnection, wrong: bool = False) -> Response:
        language = self._language if self._language != "auto" else _spoken(came.headers)
        said = words(language)
        shown = FORM.substitute(
            language=language,
            lead=said["door.lead"],
            key=said["door.key"],
            wrong=said["door.wrong"] if wrong else "",
            enter=said["door.enter"],
            where=said["door.where"],
        )
        return HTMLResponse(shown, 401, {"content-security-policy": policy.form(shown)})


def _token(key: SecretStr) -> str:
    """Return what the cookie of a key holds: it shows nothing of the key, and is worth nothing once the key is gone."""
    return hmac.new(key.get_secret_value().encode(), b"the page of Madang", sha256).hexdigest()


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Return whether a person follows another site's link to the page: it opens for itself, and changes nothing."""
    is_asked_for = scope["type"] == "http" and scope["method"] == "GET" and route_path(scope) == "/"
    return is_asked_for and headers.get("sec-fetch-dest") == "document" and "origin" not in headers


def _is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


async def _given(asked: Request) -> str:
    """Return the key that a form holds; empty where it is too long to be one."""
    body = b""
    async for part in asked.stream():
        body += part
        if len(body) > LONGEST_KEY:
            return ""
    return "".join(parse_qs(body.decode("ascii", "replace")).get("key", [""])[:1]).strip()


def _spoken(headers: Headers) -> Language:
    """Return the language of the browser, by what it asks for first."""
    first = headers.get("accept-language", "")[:2].lower()
    return next((language for language in LANGUAGES if language == first), "en")


def _refusal(said: str, status: int = 403) -> Response:
    return PlainTextResponse(said, status)
