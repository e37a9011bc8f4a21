"""Which paths are the API's: the page on the same port is none of the guards' business."""

from starlette.types import Scope

METRICS = "/metrics"
SINGLE = ("/tokenize", "/detokenize", METRICS)


def route_path(scope: Scope) -> str:
    """The path as the router compares it: without the prefix that a proxy or a mount stands for."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    rest = path.removeprefix(root)
    return rest if path.startswith(root) and rest[:1] in ("", "/") else path


def is_guarded(path: str) -> bool:
    """Whether the API answers there; a slash at the end changes nothing, as the router redirects it."""
    return path == "/v1" or path.startswith("/v1/") or path.rstrip("/") in SINGLE


def route_of(scope: Scope) -> str:
    """The pattern of the route that answered, `/v1/models/{model}`; empty for a path that is nobody's."""
    pattern = getattr(scope.get("route"), "path", "")
    return pattern if is_guarded(pattern) else ""
