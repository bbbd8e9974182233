"""How kafka-python connects: the options all its clients share, TLS, and why a connection failed."""

from __future__ import annotations

import ssl
from typing import Any

from kafka.sasl.oauth import AbstractTokenProvider

from streamer.config import KafkaConfig
from streamer.connectors.kafka.reachability import why_unreachable
from streamer.connectors.kafka.tokens import Tokens, tokens_of
from streamer.errors import BrokerError, ConfigError

FETCH_MAX_WAIT_MS = 50  # how long an idle broker holds a fetch; bounds shutdown and the embedded broker's latency
FRAME_MAX_BYTES = 100 * 1024 * 1024  # a fetch may exceed its limit by one large batch
BOOTSTRAP_TIMEOUT_MS = 5_000


def ssl_context(config: KafkaConfig) -> ssl.SSLContext | None:
    """TLS settings, with certificates and host names verified; None for plaintext.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """
    if config.security_protocol not in ("SSL", "SASL_SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=str(config.ssl_cafile) if config.ssl_cafile else None)
    except OSError as error:
        raise ConfigError(f"kafka.ssl_cafile must be a readable PEM file; got {config.ssl_cafile}: {error}") from error
    if config.ssl_certfile:
        password = config.ssl_key_password.get_secret_value() if config.ssl_key_password else None
        try:
            context.load_cert_chain(config.ssl_certfile, config.ssl_keyfile, password)
        except OSError as error:
            raise ConfigError(
                "kafka.ssl_certfile and kafka.ssl_keyfile must be a PEM certificate and its key; got "
                f"{config.ssl_certfile} and {config.ssl_keyfile}: {error}"
            ) from error
    return context


def connection_options(config: KafkaConfig) -> dict[str, Any]:
    """Options that every kafka-python client of this process shares."""
    options: dict[str, Any] = {
        "client_id": config.client_id,
        "security_protocol": config.security_protocol,
        "ssl_context": ssl_context(config),
        "reconnect_backoff_max_ms": 2_000,
        "receive_message_max_bytes": FRAME_MAX_BYTES,
        "api_version_auto_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
    }
    if config.by_token:
        options |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": _Provider(tokens_of(config))}
    elif config.security_protocol.startswith("SASL"):
        assert config.sasl_password is not None  # KafkaConfig insists on it
        options |= {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_plain_username": config.sasl_username,
            "sasl_plain_password": config.sasl_password.get_secret_value(),
        }
    return options


class _Provider(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens as kafka-python asks for them."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    def token(self) -> str:
        return self._tokens().text

    def __deepcopy__(self, memo: object) -> _Provider:
        return self


def bootstrap_list(config: KafkaConfig) -> list[str]:
    return [server.strip() for server in config.bootstrap_servers.split(",")]


def no_connection(config: KafkaConfig) -> BrokerError:
    reason = why_unreachable(config.bootstrap_servers) or (
        f"{config.bootstrap_servers} takes connections but did not let us in within {BOOTSTRAP_TIMEOUT_MS / 1000:g} s; "
        "`streamer check` tells why"
    )
    return BrokerError(reason)
