"""The client of one OpenAI-compatible server: sends, retries, bounds what comes back, explains what went wrong.

Retries end where the first byte of an answer has come. A redirect to another host is an error, loopback never goes
through a proxy, and no message holds the key.
"""

import asyncio
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from playground.errors import MadangError, VariantError, WorkerError, causes
from playground.protocol import Address
from playground.remote.sse import Events, Lines, TooLong, read_json
from playground.settings import Environment, key_in
from playground.wording import worded

PAUSES_S = (0.5, 1.0, 2.0)
"""Between attempts where the server is out of reach or busy; a Retry-After replaces the pause, up to its limit."""
LONGEST_PAUSE_S = 20.0
RETRIED = (429, 502, 503)
REDIRECTS = 3
CONNECT_S = 10.0
PATIENCE = 10
"""How many of a row's longest silences an answer may take that comes bit by bit, or says nothing but that it lives."""
LARGEST_PAGE = 4 * 2**20
LARGEST_ANSWER = 64 * 2**20
LARGEST_ERROR = 64 * 2**10
WORDS = 300
"""Characters of a server's own message that are passed on."""


_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For addresses in plain HTTP: the authorities, which take a quarter of a second to read, are not needed there."""


class Refused(VariantError):
    """The server answered, and not with 200 (shown as a VariantError). `said`: its own words, shortened."""

    def __init__(self, message: str, hint: str, status: int, said: str) -> None:
        super().__init__(message, hint)
        self.status = status
        self.said = said


@dataclass
class Line:
    """A client of one address. `name` is the variant's, for messages. Used from one event loop."""

    name: str
    address: Address
    pauses: tuple[float, ...] = PAUSES_S
    _client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        try:
            self._client = self._opened()
        except (httpx.InvalidURL, UnicodeError) as error:
            raise VariantError(worded("http.no_address", name=self.name, url=self.address.url, error=error)) from error
        except (OSError, ssl.SSLError) as error:  # httpx reads the file that this variable names
            told = Environment()
            named = told.ssl_cert_file or told.ssl_cert_dir or worded("http.system_certificates")
            text = worded("http.certificates_unread", name=self.name, named=named, strerror=error.strerror or error)
            raise VariantError(text, worded("http.certificates_unread_hint")) from error
        except (ImportError, ValueError) as error:  # a proxy that httpx cannot speak to
            hint = worded("http.proxy_cannot_used_hint")
            raise VariantError(worded("http.proxy_cannot_used", name=self.name, error=error), hint) from error

    def _opened(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            trust_env=not is_loopback(self.address.url),
            verify=httpx.create_ssl_context() if self.address.url.startswith("https") else _TRUSTS_NOBODY,
            timeout=httpx.Timeout(self.address.timeout_s, connect=min(CONNECT_S, self.address.timeout_s), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
            headers={"accept-encoding": "identity", "user-agent": "madang"},
        )

    @property
    def host(self) -> str:
        """Host and port, as people say them."""
        return httpx.URL(self.address.url).netloc.decode()

    @property
    def has_path(self) -> bool:
        """Whether the address names more than a host."""
        return httpx.URL(self.address.url).path.strip("/") != ""

    async def get(self, path: str, root: bool = False) -> Any:
        """Return the JSON of a page below the address (`root`: below the address without its /v1)."""
        return await self._json("GET", self._url(path, root), None, LARGEST_PAGE)

    async def post(self, path: str, body: dict[str, Any], root: bool = False) -> Any:
        """Return the JSON that a request gets."""
        return await self._json("POST", self._url(path, root), body, LARGEST_ANSWER)

    @asynccontextmanager
    async def stream(
        self, path: str, body: dict[str, Any], limit: int, root: bool = False
    ) -> AsyncIterator[AsyncIterator[list[str]]]:
        """Stream the data of events, a list for those that came together; more than `limit` bytes are an error."""
        response = await self._open("POST", self._url(path, root), body)
        try:
            yield self._events(response, limit)
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    def broken(self, message: str, hint: str = "") -> WorkerError:
        """Return the error for an answer that makes no sense."""
        return WorkerError(worded("http.told", name=self.name, message=message, url=self.address.url), hint)

    def endless(self) -> WorkerError:
        """Return the error for an answer that goes on without coming to an end."""
        return self.broken(worded("http.endless", host=self.host, patience=PATIENCE * self.address.timeout_s))

    def _url(self, path: str, root: bool) -> str:
        return (self.address.url.removesuffix("/v1") if root else self.address.url) + path

    def _headers(self) -> dict[str, str]:
        sent = self._key()
        return {"authorization": f"Bearer {sent}"} if sent else {}

    def _key(self) -> str:
        named = self.address.key_env
        value = key_in(named) if named else ""
        if named and not value.strip():
            raise VariantError(
                worded("http.reads_key_not", name=self.name, named=named),
            )
        if not all("!" <= letter <= "~" for letter in value.strip()):
            raise VariantError(worded("http.holds_no_key", named=named))
        return value.strip()

    async def _json(self, method: str, url: str, body: dict[str, Any] | None, limit: int) -> Any:
        response = await self._open(method, url, body)
        try:
            raw = await self._read(response, limit)
        finally:
            await response.aclose()
        try:
            return read_json(raw.decode("utf-8-sig", errors="replace"))
        except ValueError as error:
            raise self.broken(worded("http.no_json", host=self.host)) from error

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        raw = bytearray()
        try:
            async with asyncio.timeout(PATIENCE * self.address.timeout_s):
                async for part in self._parts(response):
                    raw += part
                    if len(raw) > limit:
                        raise self.broken(worded("http.answered_more", host=self.host, limit=limit))
        except TimeoutError as error:
            raise self.endless() from error
        return bytes(raw)

    async def _parts(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the body as it comes. A packed one, which could grow without bounds, is refused: none was asked for."""
        if response.headers.get("content-encoding", "identity").strip() not in ("identity", "none", ""):
            raise self.broken(worded("http.packed", host=self.host))
        try:
            async for part in response.aiter_raw():
                yield part
        except httpx.TimeoutException as error:
            raise self._silent() from error
        except httpx.HTTPError as error:
            raise WorkerError(worded("http.broke_off_middle", name=self.name, host=self.host)) from error

    async def _events(self, response: httpx.Response, limit: int) -> AsyncIterator[list[str]]:
        kind = response.headers.get("content-type", "")
        lines = "ndjson" in kind or "jsonl" in kind
        if "json" in kind and not lines:  # a server that does not stream
            yield [(await self._read(response, limit)).decode(errors="replace")]
            return
        events, taken = Lines() if lines else Events(), 0
        async for part in self._parts(response):
            taken += len(part)
            try:
                found = list(events.feed(part))
            except TooLong as error:
                raise self.broken(worded("http.long_line", host=self.host, limit=error.limit)) from error
            if taken > limit:
                raise self.broken(worded("http.sent_more", host=self.host, limit=limit))
            if found:
                yield found
        if (last := events.end()) and _is_whole(last):
            yield [last]

    async def _open(self, method: str, url: str, body: dict[str, Any] | None) -> httpx.Response:
        """Return an answer with status 200, its body unread; try again, after a pause, where that may help."""
        for attempt in count():
            asked_to_wait: float | None = None
            try:
                response = await self._send(method, url, body)
                if response.status_code == httpx.codes.OK:
                    return response
                asked_to_wait = retry_after(response)
                failure: MadangError = await self._refusal(response)
                final = response.status_code not in RETRIED
            except httpx.TransportError as error:
                failure, final = self._unreachable(error)
                failure.__cause__ = error
            if final or attempt == len(self.pauses) or (asked_to_wait or 0.0) > LONGEST_PAUSE_S:
                raise failure
            await asyncio.sleep(self.pauses[attempt] if asked_to_wait is None else asked_to_wait)
        raise AssertionError("count() ends")

    async def _send(self, method: str, url: str, body: dict[str, Any] | None) -> httpx.Response:
        for _ in range(REDIRECTS + 1):
            request = self._client.build_request(method, url, json=body, headers=self._headers())
            response = await self._head(request)
            if not response.has_redirect_location:
                return response
            await response.aclose()
            target = request.url.join(response.headers["location"])  # httpx has refused what is no address
            if _origin(target) != _origin(request.url):
                raise VariantError(
                    worded(
                        "http.sends_another_host", name=self.name, host=self.host, target=self.clean(_origin(target))
                    ),
                )
            if method == "POST" and response.status_code not in (307, 308):
                raise self.broken(
                    worded("http.sends_on", host=self.host, path=self.clean(target.path)), worded("http.sends_on_hint")
                )
            url = str(target)
        raise self.broken(worded("http.sends_on_and_on", host=self.host))

    async def _head(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer's head, which may not come bit by bit for ever."""
        try:
            async with asyncio.timeout(CONNECT_S + self.address.timeout_s):
                return await self._client.send(request, stream=True)
        except TimeoutError as error:
            raise self._silent() from error

    async def _refusal(self, response: httpx.Response) -> Refused:
        try:
            raw = await self._read(response, LARGEST_ERROR)
        except MadangError:
            raw = b""
        finally:
            await response.aclose()
        said = self.clean(words(raw))
        status = response.status_code
        message = f"{self.name}: {self.host} answered {status}" + (f": {said}" if said else ".")
        return Refused(message, self._remedy(status, retry_after(response)), status, said)

    def clean(self, text: str) -> str:
        """Return a server's words, printable, short, and without the key, should they repeat it."""
        key = self._headers().get("authorization", "").removeprefix("Bearer ")
        text = text.replace(key, "…") if key else text
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return text if len(text) <= WORDS else text[:WORDS] + "…"

    def _remedy(self, status: int, wait: float | None) -> str:
        if status in (401, 403):
            if self.address.key_env:
                return worded("http.wrong_key", key_env=self.address.key_env)
            return worded("http.wants_key")
        if status == 404:
            return worded("http.not_found")
        if status == 429:
            return worded("http.asks_to_wait", wait=wait) if wait else worded("http.too_much")
        if status in RETRIED:
            return worded("http.busy")
        return worded("http.own_log") if status >= 500 else ""

    def _silent(self) -> MadangError:
        return WorkerError(
            worded("http.said_nothing", name=self.name, host=self.host, timeout_s=self.address.timeout_s),
        )

    def _unreachable(self, error: httpx.TransportError) -> tuple[MadangError, bool]:
        """Return why nobody answers, and whether asking again is of no use."""
        if any(isinstance(cause, ssl.SSLError) for cause in causes(error)):
            reason = next(str(cause) for cause in causes(error) if isinstance(cause, ssl.SSLError))
            hint = worded("http.no_secure_line_hint")
            return WorkerError(
                worded("http.no_secure_line", name=self.name, host=self.host, reason=self.clean(reason)), hint
            ), True
        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return self._silent(), True
        said = worded("http.cannot_reached", name=self.name, host=self.host, url=self.address.url)
        return WorkerError(said), isinstance(error, httpx.ConnectTimeout)


def words(raw: bytes) -> str:
    """Return a server's own words in the body of an error: OpenAI's form, FastAPI's, or plain text."""
    text = raw.decode(errors="replace")
    try:
        found = read_json(text)
    except ValueError:
        return "" if text.lstrip().startswith("<") else text
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            found = found[name]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _is_whole(data: str) -> bool:
    """Return whether the last data of a stream was not cut off."""
    try:
        read_json(data)
    except ValueError:
        return data.strip() == "[DONE]"
    return True


def retry_after(response: httpx.Response) -> float | None:
    """Return seconds that the server asks to wait; None where it says nothing or a date."""
    try:
        wait = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return wait if 0 <= wait < float("inf") else None


def is_loopback(url: str) -> bool:
    """Return whether an address is this machine's own."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
