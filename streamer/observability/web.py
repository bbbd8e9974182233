"""The HTTP side of the daemon: `/metrics`, `/healthz`, `/readyz`, `/incidents`, and who may see them.

Loopback by default. Not inside: the content of the responses, logins (`access`), connections (`serving`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streamer.config import HttpConfig
from streamer.errors import ConfigError
from streamer.observability.access import WRONG_S, Access, Verdict
from streamer.observability.serving import CERTIFICATE, BoundedServer
from streamer.observability.tls import contexts

# None: all is well; else the reason why not.
Check = Callable[[], str | None]
Notes = Callable[[], Sequence[str]]  # what a person may want to know besides
Headers = list[tuple[str, str]]
Answer = tuple[str, dict[str, Any]]  # status and content, as JSON
Ask = Callable[[str, str], Answer]  # of a path and a query string

_INCIDENTS = "/incidents"

_STATUS = {
    Verdict.NOBODY: "401 Unauthorized",
    Verdict.WRONG: "401 Unauthorized",
    Verdict.BUSY: "429 Too Many Requests",
    Verdict.NO_CERTIFICATE: "403 Forbidden",
}

log = logging.getLogger(__name__)


class WebServer:
    """Serves in threads of its own until `close`.

    Args:
        config: Where, and for whom.
        metrics: A WSGI application.
        healthy: For `/healthz`.
        ready: For `/readyz`.
        notes: What `/readyz` says besides, to those it knows.
        incidents: For `/incidents` and what is below it; None: there is no store.

    Raises:
        ConfigError: The address cannot be bound, or a file cannot be used.
    """

    def __init__(
        self,
        config: HttpConfig,
        *,
        metrics: Any,
        healthy: Check,
        ready: Check,
        notes: Notes = tuple,
        incidents: Ask | None = None,
    ) -> None:
        self._access = Access(config)
        self._open_health = config.open_health
        self._notes, self._incidents = notes, incidents
        self._metrics, self._checks = metrics, {"/healthz": healthy, "/readyz": ready}
        self._scheme = "http" if config.tls_certfile is None else "https"
        tls = contexts(config)
        try:
            self._server = BoundedServer(
                (config.host, config.port),
                self._answer,
                tls=tls,
                max_connections=config.max_connections,
                timeout_s=config.timeout_s,
            )
        except OSError as error:
            raise ConfigError(
                f"http: wanted to listen on {config.host}:{config.port}; {error.strerror}: set http.port"
            ) from None
        if config.concern:
            log.warning("http: %s", config.concern)
        self._server.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}"

    def close(self) -> None:
        self._server.close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """A page, or why there is none."""
        method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", "")
        if method not in ("GET", "HEAD"):
            return _text(start_response, "405 Method Not Allowed", "only GET and HEAD", [("Allow", "GET, HEAD")])
        verdict = self._access.judge(
            environ.get("HTTP_AUTHORIZATION"),
            address=environ.get("REMOTE_ADDR", ""),
            has_certificate=bool(environ.get(CERTIFICATE)),
        )
        known = verdict is Verdict.KNOWN
        if not known and not (path in self._checks and self._open_health):
            return self._refuse(verdict, start_response)
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics(environ, start_response)
        elif path in self._checks:
            reason = self._checks[path]()
            status = "200 OK" if reason is None else "503 Service Unavailable"
            # Reasons name topics, servers and users.
            said = "ok" if reason is None else reason if known else "no; the reason is told after a login"
            notes = self._notes() if known and path == "/readyz" else ()
            page = _text(start_response, status, "\n".join((said, *notes)))
        elif self._incidents is not None and (path == _INCIDENTS or path.startswith(f"{_INCIDENTS}/")):
            below = path.removeprefix(_INCIDENTS).removeprefix("/")
            page = _json(start_response, *self._incidents(below, environ.get("QUERY_STRING", "")))
        else:
            page = _text(start_response, "404 Not Found", "try /metrics, /healthz or /readyz")
        return page if method == "GET" else []

    def _refuse(self, verdict: Verdict, start_response: Any) -> Iterable[bytes]:
        headers: Headers = []
        if verdict in (Verdict.NOBODY, Verdict.WRONG):
            headers = [("WWW-Authenticate", scheme) for scheme in self._access.schemes]
        elif verdict is Verdict.BUSY:
            headers = [("Retry-After", f"{WRONG_S:.0f}")]
        return _text(start_response, _STATUS[verdict], verdict.value, headers)


def _json(start_response: Any, status: str, content: dict[str, Any]) -> list[bytes]:
    headers = [
        ("Content-Type", "application/json"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]
    start_response(status, headers)
    return [json.dumps(content).encode() + b"\n"]


def _text(start_response: Any, status: str, text: str, headers: Headers | None = None) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), *(headers or [])])
    return [(text + "\n").encode()]
