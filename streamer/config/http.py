"""The `http` section: the port of `/metrics`, `/healthz` and `/readyz`.

Not inside: the server (`observability.web`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamer.config.section import Section


class HttpConfig(Section):
    """`/metrics`, `/healthz`, `/readyz`."""

    host: str = "127.0.0.1"  # listen address
    port: Annotated[int, Field(ge=0, le=65535)] = 9108  # listen port; 0: any free port, logged at start
    max_stream_series: Annotated[int, Field(ge=0)] = 500  # maximum number of streams with series on /metrics
