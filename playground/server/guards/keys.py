"""Who may use the API: clients with a key; where no key is set, programs of this machine, and no web page but ours."""

import hmac
import socket
from collections.abc import Iterable
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.errors import ConfigError, SetupError
from playground.server.guards.record import Refusal, record_of, refusal
from playground.settings import Settings, split_keys
from playground.wording import worded

SET_A_KEY = "Set a key with MADANG_API_KEYS (or MADANG_API_KEYS_FILE) and send it as `Authorization: Bearer KEY`."
BY_PROXY = ("forwarded", "via", "x-forwarded-", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
"""Beginnings of the names of headers that proxies add."""


def read_keys(settings: Settings) -> tuple[SecretStr, ...]:
    """Return the keys of the environment and of the file (one per line, # begins a comment)."""
    keys = split_keys(settings.api_keys)
    if settings.api_keys_file is not None:
        path = settings.api_keys_file.expanduser()
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds more than ASCII"
            raise ConfigError(worded("keys.cannot_read", path=path, why=why)) from None
        found = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if not found:
            raise ConfigError(worded("keys.holds_no_key", path=path))
        keys += found
    return tuple(SecretStr(key) for key in dict.fromkeys(keys))


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address; False for a name."""
    try:
        address = ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_address(host: str) -> bool:
    """Return whether a host to listen on is an address and no name; the empty one means every address."""
    try:
        ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        return not host
    return True


def check_binding(settings: Settings) -> None:
    """Refuse to serve other machines without a key."""
    if read_keys(settings) or all(map(is_loopback, _addresses(settings.host))):
        return
    raise SetupError(
        worded("keys.madang_would_open", host=settings.host or worded("keys.every_address")),
    )


def _addresses(host: str) -> list[str]:
    """Return the addresses of a host to listen on; the empty one means every address."""
    plain = host.strip("[]") or "0.0.0.0"
    try:
        found = socket.getaddrinfo(plain, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SetupError(worded("keys.no_address_machine", host=host)) from None
    return [str(row[4][0]) for row in found]


class Keyring:
    """Compares keys in constant time, so that timing tells nothing of how much of a key was right."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    def __len__(self) -> int:
        return len(self._digests)

    def number(self, given: str) -> int | None:
        """Return the number of a key, from 1; None for an unknown one."""
        digest = _digest(given)
        found = [hmac.compare_digest(known, digest) for known in self._digests]
        return found.index(True) + 1 if any(found) else None


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


class Place:
    """Tells requests of this machine from others: those of its programs, and of no web page but ours."""

    def __init__(self, host: str) -> None:
        self.names = {"localhost"} if _is_address(host) else {"localhost", host.lower()}

    def fault(self, client: str, headers: Headers) -> str:
        """Return what is foreign about a request: its place, the host it asks, or the page it comes from; or nothing.

        `client`: the address of its other end. A name that only resolves to this machine may be a stranger's.
        """
        if not is_loopback(client) or any(name.startswith(BY_PROXY) for name in headers):
            return "place"
        if not self._is_here(headers.get("host", "")):
            return "host"
        return "origin" if of_another_site(headers) else ""

    def _is_here(self, asked: str) -> bool:
        try:
            name = urlsplit(f"//{asked}").hostname or ""
        except ValueError:
            return False
        return name in self.names or is_loopback(name)


def of_another_site(headers: Headers) -> bool:
    """Return whether a browser sends a request for a page of another site.

    A browser that says so itself is believed: no page can change that, while a proxy may have changed `Host`.
    """
    if said := headers.get("sec-fetch-site"):
        return said not in ("same-origin", "none")
    hosts = [headers[name].lower() for name in ("host", "x-forwarded-host") if name in headers]
    origin = headers.get("origin")
    ours = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    return origin is not None and origin.lower() not in ours


class Keys:
    """Passes on requests with a key; where no key is set, those of this machine."""

    def __init__(self, app: ASGIApp, keyring: Keyring, host: str) -> None:
        self.app = app
        self.keyring = keyring
        self.place = Place(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse."""
        headers = Headers(scope=scope)
        refused = self._by_key(scope, headers) if len(self.keyring) else self._by_place(scope, headers)
        await (refused.send if refused else self.app)(scope, receive, send)

    def _by_key(self, scope: Scope, headers: Headers) -> Refusal | None:
        given = bearer(headers)
        if not given:
            return _unknown("You didn't provide an API key. Send it as `Authorization: Bearer KEY`.")
        number = self.keyring.number(given)
        if number is None:
            return _unknown("Incorrect API key provided. The owner of this server has the right ones.")
        record_of(scope).caller = f"key {number}"
        return None

    def _by_place(self, scope: Scope, headers: Headers) -> Refusal | None:
        client = record_of(scope).caller = record_of(scope).client
        fault = self.place.fault(client, headers)
        return _foreign(fault, f"Without a key the API {ONLY[fault]}. {SET_A_KEY}") if fault else None


ONLY = {
    "place": "serves its own machine alone",
    "host": "answers at 127.0.0.1 or localhost alone",
    "origin": "serves no page of another site",
}


def bearer(headers: Headers) -> str:
    """Return the key that a request brings; empty where it brings none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _unknown(message: str) -> Refusal:
    return refusal("key", 401, message, "invalid_api_key", {"WWW-Authenticate": "Bearer"})


def _foreign(reason: str, message: str) -> Refusal:
    return refusal(reason, 403, message, "api_key_required")
