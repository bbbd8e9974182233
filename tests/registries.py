"""A small schema registry: an HTTP server that answers as Confluent's does, and can go away and come back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Registry:
    """Schemas by number; begins away."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.versions: dict[tuple[str, int], dict[str, Any]] = {}  # by subject and version, for references
        self.asked: list[str] = []
        self.logins: list[str | None] = []
        self.status: int | None = None  # instead of an answer
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add(self, number: int, schema: Any, kind: str = "AVRO", references: Any = ()) -> None:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        answer: dict[str, Any] = {"schema": text, "references": list(references)}
        self.schemas[number] = answer if kind == "AVRO" else answer | {"schemaType": kind}

    def start(self) -> None:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                registry.logins.append(self.headers.get("Authorization"))
                status, answer = registry._answer(self.path)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, path: str) -> tuple[int, Any]:
        if self.status is not None:
            return self.status, {"error_code": self.status * 100 + 1, "message": "out of order"}
        parts = urlsplit(path)
        match parts.path.strip("/").split("/"):
            case ["schemas", "ids", number] if int(number) in self.schemas:
                found = self.schemas[int(number)]
                if found.get("schemaType") == "PROTOBUF":
                    assert parse_qs(parts.query).get("format") == ["serialized"]
                return 200, found
            case ["schemas", "ids", number]:
                return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
            case ["subjects", subject, "versions", version] if (subject, int(version)) in self.versions:
                return 200, self.versions[subject, int(version)]
            case ["subjects", *_]:
                return 404, {"error_code": 40401, "message": "Subject not found"}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


@contextmanager
def running() -> Iterator[Registry]:
    """A registry that answers."""
    registry = Registry()
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


def framed(number: int, message: bytes) -> bytes:
    """A message in the Confluent wire format."""
    return b"\x00" + number.to_bytes(4, "big") + message
