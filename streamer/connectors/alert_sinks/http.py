"""One HTTP request at a time, with a bound on everything.

The standard library's client: no redirects, no proxy that nobody configured, one connection for each request. Time is
bounded as a whole, however slowly bytes come. Nothing that is logged holds a secret, nor the path of an address, which
often is one. Not inside: what is sent (`alertmanager`, `webhook`).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from streamer import __version__
from streamer.connectors.alert_sinks.interface import DELIVERED, FAILED, REFUSED, Answer, SinkUnreachable

MAX_ANSWER_BYTES = 65_536
MAX_RETRY_AFTER_S = 300.0
_SHOWN = 200  # characters of an answer that says why not
# About the connection, the login or the moment, not about the alert: the same alert may be taken later.
RETRIED = frozenset({401, 403, 404, 407, 408, 425, 429})


class HttpClient:
    """Sends to one address.

    Args:
        url: The address now; it may come from a file that changes.
        timeout_s: Of a request as a whole.
        ca_file: Trusted certificates; None: the system's.
        token: Of a login by bearer token.
        username: Of a login by password.
        password: Of the same.
    """

    def __init__(
        self,
        url: Callable[[], str],
        *,
        timeout_s: float,
        ca_file: Path | None = None,
        token: SecretStr | None = None,
        username: str | None = None,
        password: SecretStr | None = None,
    ) -> None:
        self._url, self._timeout_s, self._ca_file = url, timeout_s, ca_file
        self._token, self._username, self._password = token, username, password

    @property
    def where(self) -> str:
        """Host and port, which is all of the address that may be shown."""
        try:
            parts = urlsplit(self._url())
            return f"{parts.hostname}:{_port(parts)}"
        except ValueError:
            return "(no valid address)"

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """Send JSON to the address with `path` behind it."""
        return self._ask("POST", path, body, {"Content-Type": "application/json"} | dict(headers or {}))

    def get(self, path: str) -> Answer:
        """Ask for something that changes nothing."""
        return self._ask("GET", path, None, {})

    def reach(self) -> None:
        """Connect, and verify the certificate, without asking for anything.

        Raises:
            SinkUnreachable: It does not work.
        """
        try:
            with self._connected(urlsplit(self._url())):
                pass
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SinkUnreachable(f"{self.where}: {_said(error)}") from None

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            parts = urlsplit(self._url())
            target = (parts.path.rstrip("/") if path else parts.path or "/") + path
            target += f"?{parts.query}" if parts.query else ""
            with self._connected(parts) as connection:
                connection.request(method, target, body, {**headers, **self._own_headers()})
                response = connection.getresponse()
                # Taken is taken, whatever follows.
                content = b"" if 200 <= response.status < 300 else response.read(MAX_ANSWER_BYTES)
                return self._judge(response.status, response.getheader("Retry-After"), content)
        except (OSError, ValueError, http.client.HTTPException) as error:
            return Answer(FAILED, _said(error))

    def _own_headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"streamer/{__version__}", "Connection": "close"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        elif self._username is not None and self._password is not None:
            login = f"{self._username}:{self._password.get_secret_value()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        return headers

    def _judge(self, status: int, retry_after: str | None, content: bytes) -> Answer:
        if 200 <= status < 300:
            return Answer(DELIVERED)
        if 300 <= status < 400:
            return Answer(
                FAILED, f"answer {status}: it redirects, which is not followed; set the address it redirects to"
            )
        text = content[: 4 * _SHOWN].decode("utf-8", "replace").strip()
        for secret in self._secrets():
            text = text.replace(secret, "***")
        why = f"answer {status}{f': {text[:_SHOWN]}' if text else ''}"
        if 400 <= status < 500 and status not in RETRIED:
            return Answer(REFUSED, why)
        return Answer(FAILED, why, _seconds(retry_after))

    def _secrets(self) -> Iterator[str]:
        parts = urlsplit(self._url())
        for text in (parts.query, parts.path):
            if len(text) > 1:
                yield text
                yield from (part for part in text.split("/") if len(part) > 7)
        for secret in (self._token, self._password):
            if secret is not None and secret.get_secret_value():
                yield secret.get_secret_value()
        if "Authorization" in (headers := self._own_headers()):
            yield headers["Authorization"].split()[-1]

    @contextlib.contextmanager
    def _connected(self, parts: SplitResult) -> Iterator[http.client.HTTPConnection]:
        host, port = parts.hostname or "", _port(parts)
        sockets: list[socket.socket] = []
        late = threading.Event()

        def cut_off() -> None:
            late.set()
            for one in sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # past TLS, which would wait for an answer

        timer = threading.Timer(self._timeout_s, cut_off)
        timer.daemon = True
        timer.start()
        connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        try:
            sock = socket.create_connection((host, port), self._timeout_s)
            sockets.append(sock)
            if parts.scheme == "https":
                context = ssl.create_default_context(cafile=None if self._ca_file is None else str(self._ca_file))
                sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
                sockets[:] = [sock]
                _stop_if(late)
                sock.do_handshake()
            connection.sock = sock
            _stop_if(late)  # while there was no socket yet that could be shut down
            yield connection
        except (OSError, ValueError, http.client.HTTPException):
            if late.is_set():
                raise TimeoutError("timed out") from None
            raise
        finally:
            timer.cancel()
            connection.close()
            for one in sockets:
                one.close()


def _stop_if(late: threading.Event) -> None:
    if late.is_set():
        raise TimeoutError


def _said(error: Exception) -> str:
    """What happened, without what a library puts in: it may quote what was sent."""
    if isinstance(error, TimeoutError):
        return "no whole answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error.strerror or 'connection lost'}"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is not HTTP ({type(error).__name__})"
    return "the address or a secret of it is not valid"


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _seconds(retry_after: str | None) -> float | None:
    """A number of seconds; dates are left out, few servers send one."""
    if retry_after is None or not retry_after.strip().isascii() or not retry_after.strip().isdecimal():
        return None
    return min(float(retry_after), MAX_RETRY_AFTER_S)
