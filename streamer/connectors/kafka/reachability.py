"""Why a broker cannot be reached, in plain words; no Kafka client needed."""

from __future__ import annotations

import socket


def why_unreachable(bootstrap_servers: str, timeout_s: float = 0.5) -> str | None:
    """What a TCP connection to the first server says; None if one of them answers."""
    reason: str | None = None
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout_s):
                return None
        except (OSError, ValueError) as error:
            reason = reason or f"no connection to {server.strip()}: {connection_error(error)}"
    return reason


def connection_error(error: BaseException) -> str:
    """The plain word for a failed connection."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    return str(error) or type(error).__name__
