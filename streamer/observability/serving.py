"""A small HTTP server with bounds on everything a client decides.

One thread for each connection, at most `max_connections`; one request for each connection, with `timeout_s` for all of
it, the TLS handshake and a slow reader included; at most `MAX_HEAD_BYTES` of request line and headers; bodies are not
read. Why no other server: docs/decisions/0019. Not inside: pages (`web`), certificates (`tls`).
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

MAX_HEAD_BYTES = 16_384  # request line and headers
MAX_HEADERS = 64
CERTIFICATE = "streamer.client_certificate"  # in the environment: whether the client showed one that was verified
_REAP_S = 0.25
_COMPLAIN_S = 60.0

log = logging.getLogger(__name__)


class BoundedServer(ThreadingMixIn, WSGIServer):
    """Serves one WSGI application.

    Args:
        address: Host and port.
        app: Called in a thread of the connection.
        tls: Gives what a connection is encrypted with; None: nothing is.
        max_connections: At the same time.
        timeout_s: For all of a connection.

    Raises:
        OSError: The address cannot be bound.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        app: Any,
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        max_connections: int,
        timeout_s: float,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Handler)
        self.set_app(app)
        self.tls, self.timeout_s = tls, timeout_s
        self._room = threading.BoundedSemaphore(max_connections)
        self._open: dict[int, tuple[socket.socket, float]] = {}  # by thread: connection and its deadline
        self._lock = threading.Lock()
        self._complained_s = -_COMPLAIN_S
        self._thread = threading.Thread(target=self.serve_forever, args=(_REAP_S,), name="http", daemon=True)

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop; connections that are open are cut."""
        self.shutdown()
        self.server_close()
        with self._lock:
            for connection, _ in self._open.values():
                _cut(connection)
        self._thread.join(5)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more connection, if there is room."""
        if not self._room.acquire(blocking=False):
            self._complain()
            if self.tls is None:
                with contextlib.suppress(OSError):
                    request.setblocking(False)
                    request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """All of one connection."""
        me = threading.get_ident()
        try:
            request.settimeout(self.timeout_s)
            with self._lock:
                self._open[me] = request, time.monotonic() + self.timeout_s
            if self.tls is not None:
                request = self._encrypted(me, request)
            if request is not None:
                super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                del self._open[me]
            self._room.release()

    def service_actions(self) -> None:
        """Cut connections whose time is over, now and then."""
        now_s = time.monotonic()
        with self._lock:
            for connection, deadline_s in self._open.values():
                if now_s > deadline_s:
                    _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no news."""
        log.debug("connection of %s", client_address[0], exc_info=True)

    def _encrypted(self, me: int, request: socket.socket) -> ssl.SSLSocket | None:
        """The connection after its handshake; None if that fails."""
        assert self.tls is not None
        connection = None
        try:
            connection = self.tls().wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._open[me] = connection, self._open[me][1]
            connection.do_handshake()
            return connection
        except (OSError, ValueError) as error:
            log.debug("no TLS: %s", error)
            self.shutdown_request(connection or request)
            return None

    def _complain(self) -> None:
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAIN_S:
            self._complained_s = now_s
            log.warning("http: connections refused, http.max_connections are open already")


class Handler(WSGIRequestHandler):
    """One request."""

    server: BoundedServer
    server_version, sys_version = "streamer", ""  # no version numbers for whoever is looking for weak ones

    def handle(self) -> None:
        """Read the head within its bounds, and let the application answer."""
        self.rfile = _Rationed(self.rfile)  # type: ignore[assignment]
        self.requestline = self.request_version = self.command = ""
        try:
            self.raw_requestline = self.rfile.readline(MAX_HEAD_BYTES + 1)
        except http.client.LineTooLong:
            self.send_error(414)
            return
        if not self.parse_request():
            return
        if len(self.headers) > MAX_HEADERS:
            self.send_error(431, "Too many headers", f"at most {MAX_HEADERS}")
            return
        rfile: Any = self.rfile
        wfile: Any = self.wfile
        answer = _Answer(rfile, wfile, self.get_stderr(), self.get_environ(), multithread=True)
        answer.request_handler = self  # type: ignore[attr-defined]
        answer.run(self.server.get_app())  # type: ignore[arg-type]

    def get_environ(self) -> dict[str, Any]:
        """The request, and whether a certificate came with it."""
        connection = self.connection
        shown = isinstance(connection, ssl.SSLSocket) and bool(connection.getpeercert())
        return super().get_environ() | {CERTIFICATE: shown}

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape every few seconds is no news."""


class _Answer(ServerHandler):
    server_software = "streamer"

    def log_exception(self, exc_info: Any) -> None:
        """A client that goes away is no news; all else is."""
        if not isinstance(exc_info[1], OSError):
            log.error("http: a page failed", exc_info=exc_info)


class _Rationed:
    """Reads lines until a number of bytes is used up."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, MAX_HEAD_BYTES

    def readline(self, most: int = -1) -> bytes:
        line: bytes = self._file.readline(self._left + 1 if most < 0 else min(most, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("head of the request")
        return line

    def close(self) -> None:
        self._file.close()


def _cut(connection: socket.socket) -> None:
    """End a connection that another thread may be reading or writing."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not SSLSocket's, which would pull the rug from it
