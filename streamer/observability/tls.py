"""Certificates of the HTTP port, read again when they change.

Not inside: connections (`serving`), logins (`access`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from streamer.config import HttpConfig
from streamer.errors import ConfigError
from streamer.observability.reloaded import Reloaded


def contexts(config: HttpConfig) -> Callable[[], ssl.SSLContext] | None:
    """Gives what the next connection is encrypted with; None where nothing is encrypted.

    Raises:
        ConfigError: The files cannot be used.
    """
    if config.tls_certfile is None:
        return None
    files = [file for file in (config.tls_certfile, config.tls_keyfile, config.tls_client_cafile) if file is not None]
    return Reloaded(files, lambda: _context(config))


def _context(config: HttpConfig) -> ssl.SSLContext:
    assert config.tls_certfile is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key would else ask for its password at the terminal.
        context.load_cert_chain(config.tls_certfile, config.tls_keyfile, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"http.tls_certfile {config.tls_certfile} and http.tls_keyfile {config.tls_keyfile}: wanted a certificate "
            f"and its key, in PEM, not encrypted; {_said(error)}"
        ) from None
    if config.tls_client_cafile is not None:
        try:
            context.load_verify_locations(config.tls_client_cafile)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"http.tls_client_cafile {config.tls_client_cafile}: wanted certificates in PEM; {_said(error)}"
            ) from None
        # Kubernetes' probes have no certificate: where they may ask, /metrics alone insists (`web`).
        context.verify_mode = ssl.CERT_OPTIONAL if config.open_health else ssl.CERT_REQUIRED
    return context


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or type(error).__name__)
