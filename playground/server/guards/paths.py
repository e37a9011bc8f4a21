"""Which paths are the API's: the page on the same port is none of the guards' business."""

import re

from starlette.types import Scope

METRICS = "/metrics"
SINGLE = ("/tokenize", "/detokenize", METRICS)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""Open to nobody unasked: `$` in the router's patterns looks past a newline at a path's end."""


def route_path(scope: Scope) -> str:
    """The path as the router compares it: without the prefix that a proxy or a mount stands for."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    rest = path.removeprefix(root)
    return rest if path.startswith(root) and rest[:1] in ("", "/") else path


def is_guarded(path: str) -> bool:
    """Whether the API answers there, or may; a slash at the end changes nothing, as the router redirects it."""
    known = path == "/v1" or path.startswith("/v1/") or path.rstrip("/") in SINGLE
    return known or CONTROL.search(path) is not None


def route_of(scope: Scope) -> str:
    """The pattern of the route that answered, `/v1/models/{model}`; empty for a path that is nobody's."""
    pattern = getattr(scope.get("route"), "path", "")
    return pattern if is_guarded(pattern) else ""
