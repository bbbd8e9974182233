"""How librdkafka connects: the options all its clients share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from streamer.config import KafkaConfig, LimitsConfig
from streamer.config.secrets import SecretFile
from streamer.connectors.kafka.tokens import Tokens, tokens_of
from streamer.errors import ConfigError

try:
    import confluent_kafka  # noqa: F401 - here so that a missing extra is said in one sentence
except ImportError as missing:
    raise ConfigError(
        "kafka.client 'confluent' needs the confluent-kafka wheel; run: pip install 'streamer[confluent]', or set "
        "kafka.client: kafka-python"
    ) from missing

_client_log = logging.getLogger("confluent_kafka")

FETCH_MAX_WAIT_MS = 50
_LEAST_LIFE_S = 60.0
_LOOK_S = 1.0


def connection_options(config: KafkaConfig) -> dict[str, Any]:
    """Options that every librdkafka client of this process shares."""
    options: dict[str, Any] = {
        "bootstrap.servers": config.bootstrap_servers,
        "client.id": config.client_id,
        "security.protocol": config.security_protocol,
        "reconnect.backoff.max.ms": 2_000,
        "socket.timeout.ms": config.request_timeout_ms,
        "logger": _client_log,
    }
    if config.by_token:
        options |= {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": _callback(tokens_of(config))}
    elif config.security_protocol.startswith("SASL"):
        assert config.sasl_password is not None  # KafkaConfig insists on it
        options |= {
            "sasl.mechanism": config.sasl_mechanism,
            "sasl.username": config.sasl_username,
            "sasl.password": config.sasl_password.get_secret_value(),
        }
    if config.security_protocol.endswith("SSL"):
        files = {
            "ssl.ca.location": config.ssl_cafile,
            "ssl.certificate.location": config.ssl_certfile,
            "ssl.key.location": config.ssl_keyfile,
        }
        options |= {name: str(path) for name, path in files.items() if path}
        if config.ssl_key_password:
            options["ssl.key.password"] = config.ssl_key_password.get_secret_value()
    return options


class Login:
    """Gives a living client the password that its file has now; librdkafka would go on with the one of its start.

    Args:
        config: Whose password.
        clock: Seconds.
    """

    def __init__(self, config: KafkaConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        secret = config.sasl_password
        watched = config.security_protocol.startswith("SASL") and not config.by_token
        self._secret = secret if watched and isinstance(secret, SecretFile) else None
        self._user, self._clock = config.sasl_username, clock
        self._known = "" if self._secret is None else self._secret.get_secret_value()
        self._looked_s = clock()

    def renew(self, client: Any) -> None:
        """Look, at most once a second; connections made from now on log in with what is found."""
        if self._secret is None or self._clock() - self._looked_s < _LOOK_S:
            return
        self._looked_s = self._clock()
        found = self._secret.get_secret_value()
        if found != self._known:
            self._known = found
            client.set_sasl_credentials(self._user, found)
            _client_log.info("the password of user %r has changed, new connections log in with it", self._user)


def _callback(tokens: Tokens) -> Callable[[str], tuple[str, float]]:
    """Tokens as librdkafka asks for them, and asks again before they end."""

    def token(_config: str) -> tuple[str, float]:
        now = tokens()
        # A token from a file is good for the moment; the client needs to be told of some time.
        return now.text, max(now.until_s, time.time() + _LEAST_LIFE_S)

    return token


def reading_options(config: KafkaConfig, limits: LimitsConfig) -> dict[str, Any]:
    """Options of all that reads."""
    return connection_options(config) | {
        "allow.auto.create.topics": False,
        "isolation.level": config.isolation_level,
        "fetch.wait.max.ms": FETCH_MAX_WAIT_MS,
        "fetch.max.bytes": limits.fetch_bytes,
        # Of an answer, and of what one zstd batch unpacks to; librdkafka bounds no other codec.
        "receive.message.max.bytes": limits.answer_bytes,
        "queued.max.messages.kbytes": limits.poll_bytes // 1024,
        "check.crcs": True,
    }
