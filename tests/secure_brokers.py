"""Real Kafka nodes that know who is there by certificate or by token; see `brokers`."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from kafka.sasl.oauth import AbstractTokenProvider

from tests.brokers import KafkaNode
from tests.certificates import Authority


class MutualTlsKafka(KafkaNode):
    """A node that lets in nobody without a certificate of its authority."""

    kind = "mutual TLS kafka"

    def __init__(self, home: Path, directory: Path) -> None:
        super().__init__(home, directory)
        self.authority = Authority(directory / "ca")
        certfile, keyfile = self.authority.issue("broker")
        self._keystore = directory / "keystore.pem"
        self._keystore.write_text(keyfile.read_text() + certfile.read_text())

    def security(self, name: str = "client") -> dict[str, Any]:
        """The security part of a `KafkaConfig`."""
        certfile, keyfile = self.authority.issue(name)
        return {
            "security_protocol": "SSL",
            "ssl_cafile": self.authority.cafile,
            "ssl_certfile": certfile,
            "ssl_keyfile": keyfile,
        }

    def client_options(self) -> dict[str, Any]:
        security = self.security("admin")
        return super().client_options() | {key: str(value) for key, value in security.items()}

    def _listener(self) -> str:
        return "SSL"

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {
            "ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.cafile),
        }


class TokenKafka(KafkaNode):
    """A node that wants OAUTHBEARER and takes tokens without a signature, as long as they have not ended."""

    kind = "token kafka"

    def client_options(self) -> dict[str, Any]:
        class Provider(AbstractTokenProvider):  # type: ignore[misc]
            def token(self) -> str:
                return unsigned_token("admin")

        return super().client_options() | {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_oauth_token_provider": Provider(),
        }

    def _listener(self) -> str:
        return "SASL_PLAINTEXT"

    def _settings(self) -> dict[str, str]:
        login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
        return super()._settings() | {
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "sasl.mechanism.inter.broker.protocol": "OAUTHBEARER",
            "listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config": (
                f'{login} required unsecuredLoginStringClaim_sub="broker";'
            ),
        }


def unsigned_token(subject: str, life_s: float = 60.0) -> str:
    """A JWT with `alg: none`."""
    now_s = time.time()
    claims = {"sub": subject, "iat": now_s - 5, "exp": now_s + life_s}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "none"}, claims)]
    return (b".".join(parts) + b".").decode()


class IdentityProvider:
    """A token endpoint for client credentials."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.asked: list[dict[str, list[str]]] = []
        self.answer: tuple[int, bytes] | None = None  # in place of a token
        self.life_s = 60.0
        self.url = ""


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    """One that answers."""
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            provider.asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            login = base64.b64decode((self.headers["Authorization"] or "").removeprefix("Basic ")).decode()
            user, _, secret = login.partition(":")
            if provider.answer is not None:
                status, body = provider.answer
            elif provider.secrets.get(user) != secret:
                status, body = 401, b'{"error": "invalid_client"}'
            else:
                token = unsigned_token(user, provider.life_s)
                status, body = 200, json.dumps({"access_token": token, "expires_in": provider.life_s}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", body.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_port}/token"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
