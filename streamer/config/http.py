"""The `http` section: the port of `/metrics`, `/healthz` and `/readyz`, and who may ask there.

Not inside: the server (`observability.web`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from streamer.config.section import Section, is_loopback


class HttpConfig(Section):
    """`/metrics`, `/healthz`, `/readyz`."""

    host: str = "127.0.0.1"  # listen address
    port: Annotated[int, Field(ge=0, le=65535)] = 9108  # listen port; 0: any free port, logged at start
    max_stream_series: Annotated[int, Field(ge=0)] = 500  # maximum number of streams with series on /metrics
    tls_certfile: Path | None = None  # certificate and chain, PEM: HTTPS; read again when it changes
    tls_keyfile: Path | None = None  # its key, PEM, not encrypted
    tls_client_cafile: Path | None = None  # CA of client certificates, PEM: /metrics needs one (mTLS)
    auth_file: Path | None = None  # users and tokens, hashed (docs/http.md): /metrics needs a login
    open_health: bool = True  # /healthz and /readyz answer without login or client certificate, with yes or no alone
    max_connections: Annotated[int, Field(ge=1, le=1000)] = 32  # at the same time, a quarter of them from one address
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0  # for one request, from connecting to the answer's end

    @property
    def guarded(self) -> bool:
        """Whether `/metrics` asks who is there."""
        return self.auth_file is not None or self.tls_client_cafile is not None

    @property
    def concern(self) -> str | None:
        """What is open to others on the network; None if nothing is."""
        if is_loopback(self.host):
            return None
        if not self.guarded:
            how = "" if self.tls_certfile else " unencrypted and"
            return (
                f"/metrics on {self.host}:{self.port} is{how} open to all who reach it, names of streams included; "
                "set http.auth_file or http.tls_client_cafile, or keep the port to a network you trust"
            )
        if self.tls_certfile is None:
            return (
                f"logins at {self.host}:{self.port} travel unencrypted; set http.tls_certfile and http.tls_keyfile, or "
                "keep the port to a network you trust"
            )
        return None

    @model_validator(mode="after")
    def _together(self) -> HttpConfig:
        if (self.tls_certfile is None) != (self.tls_keyfile is None):
            raise ValueError("tls_certfile and tls_keyfile go together; set both or neither")
        if self.tls_client_cafile is not None and self.tls_certfile is None:
            raise ValueError("tls_client_cafile needs TLS; set tls_certfile and tls_keyfile")
        return self
