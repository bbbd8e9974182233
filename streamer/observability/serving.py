"""A small HTTP server with bounds on everything a client decides.

One thread for each connection, at most `max_connections`, a quarter of them for one address; one request for each
connection, with `HEAD_S` until all of its head is here and `timeout_s` for all of it, the TLS handshake and a slow
reader included; at most `MAX_HEAD_BYTES` of request line and headers; bodies are not read. Where there is no room, the
oldest connection that has not sent a whole head makes some: who says nothing keeps out nobody. Why no other server:
docs/decisions/0019. Not inside: pages (`web`), certificates (`tls`).
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

HEAD_S = 3.0  # from connecting to the end of the head, the TLS handshake included
SHARE = 4  # one address has this part of all connections
MAX_HEAD_BYTES = 16_384  # request line and headers
MAX_HEADERS = 64
CERTIFICATE = "streamer.client_certificate"  # in the environment: whether the client showed one that was verified
_REAP_S = 0.25
_COMPLAIN_S = 60.0

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Connection:
    """One that is open."""

    socket: socket.socket
    client: Any  # address and port
    origin: str
    opened_s: float
    deadline_s: float
    asked: bool = False  # all of the head is here


class BoundedServer(WSGIServer):
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
        super().__init__(address, Handler)  # type: ignore[arg-type]
        self.set_app(app)
        self.tls, self.timeout_s = tls, timeout_s
        self._most, self._most_of_one = max_connections, max(1, max_connections // SHARE)
        self._open: list[_Connection] = []  # the oldest first
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
            for connection in self._open:
                _cut(connection.socket)
        self._thread.join(5)

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more connection, if there is room or some can be made."""
        now_s = time.monotonic()
        deadline_s = now_s + min(HEAD_S, self.timeout_s)
        connection = _Connection(request, client_address, _origin(client_address[0]), now_s, deadline_s)
        if not self._admit(connection):
            self._complain()
            if self.tls is None:
                with contextlib.suppress(OSError):
                    request.setblocking(False)
                    request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            threading.Thread(target=self._serve, args=(connection,), name="http-connection", daemon=True).start()
        except BaseException:
            self._leave(connection)
            raise

    def asked(self, connection: _Connection) -> None:
        """All of its head is here: it keeps its place until it is answered."""
        with self._lock:
            connection.asked = True
            connection.deadline_s = connection.opened_s + self.timeout_s

    def _admit(self, new: _Connection) -> bool:
        with self._lock:
            its_own = [one for one in self._open if one.origin == new.origin]
            rivals = its_own if len(its_own) >= self._most_of_one else self._open
            if len(rivals) >= (self._most_of_one if rivals is its_own else self._most):
                oldest = next((one for one in rivals if not one.asked), None)
                if oldest is None:
                    return False
                self._open.remove(oldest)
                _cut(oldest.socket)
            self._open.append(new)
            return True

    def _leave(self, connection: _Connection) -> None:
        with self._lock, contextlib.suppress(ValueError):  # it had to make room
            self._open.remove(connection)

    def _serve(self, connection: _Connection) -> None:
        """All of one connection."""
        try:
            connection.socket.settimeout(self.timeout_s)
            if self.tls is None or self._encrypt(connection):
                Handler(connection, self)
        except Exception:
            self.handle_error(connection.socket, connection.client)
        finally:
            self._leave(connection)
            self.shutdown_request(connection.socket)

    def service_actions(self) -> None:
        """Cut connections whose time is over, now and then."""
        now_s = time.monotonic()
        with self._lock:
            for connection in self._open:
                if now_s > connection.deadline_s:
                    _cut(connection.socket)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no news."""
        log.debug("connection of %s", client_address[0], exc_info=True)

    def _encrypt(self, connection: _Connection) -> bool:
        """Whether the handshake succeeded."""
        assert self.tls is not None
        try:
            context = self.tls()
            with self._lock:  # nobody cuts the socket of before
                encrypted = context.wrap_socket(connection.socket, server_side=True, do_handshake_on_connect=False)
                connection.socket = encrypted
            encrypted.do_handshake()
            return True
        except (OSError, ValueError) as error:
            log.debug("no TLS: %s", error)
            return False

    def _complain(self) -> None:
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAIN_S:
            self._complained_s = now_s
            log.warning("http: connections refused: http.max_connections, or a quarter of it for one address")


class Handler(WSGIRequestHandler):
    """One request."""

    server: BoundedServer
    server_version, sys_version = "streamer", ""  # no version numbers for whoever is looking for weak ones

    def __init__(self, connection: _Connection, server: BoundedServer) -> None:
        self._connection = connection
        super().__init__(connection.socket, connection.client, server)

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
        self.server.asked(self._connection)
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


def _origin(address: str) -> str:
    """Whom a connection counts for: an address, or the network that one machine has of IPv6.

    >>> _origin("10.0.0.7"), _origin("::ffff:10.0.0.7"), _origin("2001:db8::1:2:3:4")
    ('10.0.0.7', '10.0.0.7', '2001:db8::')
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return address
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.IPv6Address(int(found) >> 64 << 64))


def _cut(connection: socket.socket) -> None:
    """End a connection that another thread may be reading or writing."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not SSLSocket's, which would pull the rug from it
