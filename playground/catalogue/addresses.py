"""What an address of a server may be: http or https, a host, and nothing that should not be seen."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:.]+")
LAST_NUMBER = re.compile(r"(^|\.)\d+$")
VISIBLE = re.compile(r"[!-~]+")


def checked_address(url: str) -> str:
    """Return a base address without its last slash; raises ValueError for what is none."""
    url = url.strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(parts.hostname or "") or not VISIBLE.fullmatch(url):
        raise ValueError("an address begins with http:// or https:// and names a host")
    if LAST_NUMBER.search(parts.hostname or "") and not _is_ip(parts.hostname or ""):
        raise ValueError("a host of numbers is an IP address, four of them from 0 to 255")
    if parts.username or parts.password:
        raise ValueError("an address holds no user and no password; name the key's variable as key_env")
    if parts.query or parts.fragment:
        raise ValueError("an address ends with its path, normally /v1")
    _ = parts.port  # out of range: ValueError
    return url


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
