"""The HTTP side of the daemon: `/metrics`, `/healthz`, `/readyz`.

Loopback by default. Not inside: the content of the responses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from streamer.errors import ConfigError

# None: all is well; else the reason why not.
Check = Callable[[], str | None]
Notes = Callable[[], Sequence[str]]  # what a person may want to know besides


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds a client may take over its request

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is no news."""


class WebServer:
    """Serves in threads of its own until `close`.

    Raises:
        ConfigError: The address cannot be bound.
    """

    def __init__(
        self, host: str, port: int, *, metrics: Any, healthy: Check, ready: Check, notes: Notes = tuple
    ) -> None:
        checks = {"/healthz": healthy, "/readyz": ready}

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                answer: Iterable[bytes] = metrics(environ, start_response)
                return answer
            if path not in checks:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"try /metrics, /healthz or /readyz\n"]
            reason = checks[path]()
            status = "200 OK" if reason is None else "503 Service Unavailable"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            said = notes() if path == "/readyz" else ()
            return ["".join(f"{line}\n" for line in (reason or "ok", *said)).encode()]

        try:
            self._server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
        except OSError as error:
            raise ConfigError(f"http: wanted to listen on {host}:{port}; {error.strerror}: set http.port") from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
