"""TCP ports of this machine: whether one can be listened on, and one that is free."""

import os
import socket

from playground.errors import SetupError
from playground.wording import worded


def check_port(host: str, port: int) -> None:
    """Refuse a port that another program listens on, before anything long begins."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SetupError(
                worded(
                    "ports.port_cannot_used", port=port, host=host, strerror=error.strerror or error, port2=port + 1
                ),
            ) from error


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
