"""The `kafka` section: the broker, the topics, the login.

Not inside: what a client makes of it (`connectors.kafka`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamer.config.section import Positive, Section, TopicName, is_loopback

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"]
TOKENS = ("OAUTHBEARER", "AWS_MSK_IAM")  # mechanisms that log in with a token


class KafkaConfig(Section):
    """Where readings come from and where alerts and dead letters go."""

    bootstrap_servers: str = "127.0.0.1:9092"  # comma-separated host:port list
    topic: TopicName = "readings"  # input topic
    group: Annotated[str, Field(min_length=1, max_length=249)] = "streamer"  # consumer group, shared by all replicas
    alerts_topic: TopicName = "streamer.alerts"  # output topic of alerts
    dead_letter_topic: TopicName | None = None  # topic of rejected records; none: "<topic>.dlq"
    scores_topic: TopicName | None = None  # output topic of all scores; none: scores are not published
    client: Literal["kafka-python", "confluent"] = "kafka-python"  # confluent: needs streamer[confluent]
    group_instance_id: TopicName | None = None  # static membership: a name of this replica alone, kept over restarts
    client_id: str = "streamer"  # name shown in the broker's logs
    start: Literal["earliest", "latest"] = "earliest"  # for a group without offsets; earliest: after the training data
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"  # of producers' transactions
    create_topics: bool = False  # create missing topics at start, the input too: for demo and development only
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"  # encryption and login
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"  # login method; AWS_MSK_IAM: docs/security.md
    sasl_username: str | None = None  # user; with OAUTHBEARER the client id at the identity provider
    sasl_password: SecretStr | None = None  # password or client secret; environment or file only
    oauth_token_url: str | None = None  # identity provider's token endpoint, for client credentials
    oauth_scope: str | None = None  # scope to ask for there
    oauth_token_file: Path | None = None  # file with a token that something else keeps fresh, in place of both
    aws_region: str | None = None  # of the cluster, with AWS_MSK_IAM
    ssl_cafile: Path | None = None  # trusted CA certificates, PEM; none: the system's
    ssl_certfile: Path | None = None  # client certificate, PEM
    ssl_keyfile: Path | None = None  # client key, PEM
    ssl_key_password: SecretStr | None = None  # environment or file only
    allow_insecure: bool = False  # permit unencrypted connections other than loopback
    max_poll_records: Annotated[int, Field(ge=1, le=100_000)] = 5000  # records per poll at most
    session_timeout_ms: Annotated[int, Field(ge=1000, le=1_800_000)] = 45_000  # silent this long, a replica is evicted
    request_timeout_ms: Annotated[int, Field(ge=1000, le=600_000)] = 30_000  # timeout of one request to the broker
    delivery_timeout_s: Positive = 30.0  # timeout for delivering alerts and dead letters
    probe_timeout_s: Positive = 15.0  # timeout of the start-up check of connection and ACLs

    @property
    def dlq_topic(self) -> str:
        return self.dead_letter_topic or f"{self.topic}.dlq"

    @property
    def on_loopback(self) -> bool:
        """Whether every bootstrap server is on this machine."""
        return all(map(_on_loopback, self.bootstrap_servers.split(",")))

    @property
    def by_token(self) -> bool:
        """Whether a login is by token."""
        return self.security_protocol.startswith("SASL") and self.sasl_mechanism in TOKENS

    @field_validator("bootstrap_servers")
    @classmethod
    def _with_ports(cls, servers: str) -> str:
        for server in map(str.strip, servers.split(",")):
            host, _, port = server.rpartition(":")
            if not host or server.endswith("]") or (":" in host and host[0] + host[-1] != "[]"):
                raise ValueError(
                    f"every bootstrap server needs its port, host:port; {server!r} has none: Kafka's is usually 9092"
                )
            if not (port.isdecimal() and 0 < int(port) < 65_536):
                raise ValueError(f"the port of a bootstrap server is a number from 1 to 65535; got {server!r}")
        return servers

    @model_validator(mode="after")
    def _consistent(self) -> KafkaConfig:
        if self.security_protocol.startswith("SASL"):
            self._check_login()
        if self.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT") and not self.allow_insecure:
            for server in self.bootstrap_servers.split(","):
                if not _on_loopback(server):
                    raise ValueError(
                        f"bootstrap server {server.strip()!r} is not on loopback and {self.security_protocol} is not "
                        "encrypted; use SSL or SASL_SSL, or set kafka.allow_insecure: true on a network you trust"
                    )
        names = [self.topic, self.alerts_topic, self.dlq_topic] + ([self.scores_topic] if self.scores_topic else [])
        if len(set(names)) < len(names):
            raise ValueError(f"topic, alerts_topic, dead_letter_topic and scores_topic must differ; got {names}")
        return self

    def _check_login(self) -> None:
        mechanism, given = self.sasl_mechanism, bool(self.sasl_username and self.sasl_password)
        if mechanism == "AWS_MSK_IAM":
            if not self.aws_region or self.security_protocol != "SASL_SSL":
                raise ValueError("sasl_mechanism AWS_MSK_IAM needs aws_region and security_protocol SASL_SSL")
            return
        if mechanism == "OAUTHBEARER" and self.oauth_token_file is not None:
            return
        if not given:
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password; set "
                "STREAMER_KAFKA__SASL_USERNAME and STREAMER_KAFKA__SASL_PASSWORD_FILE"
            )
        if mechanism == "OAUTHBEARER":
            url = urlsplit(self.oauth_token_url or "")
            if url.scheme not in ("http", "https") or not url.hostname:
                raise ValueError(
                    "sasl_mechanism OAUTHBEARER needs oauth_token_url, such as https://id.example.com/oauth2/token, or "
                    "oauth_token_file"
                )
            if url.username or url.password:
                raise ValueError("oauth_token_url: a login does not belong in an address")
            if url.scheme == "http" and not self.allow_insecure and not is_loopback(url.hostname):
                raise ValueError(
                    f"oauth_token_url {self.oauth_token_url} is not on loopback and not encrypted; use https, or set "
                    "kafka.allow_insecure: true on a network you trust"
                )


def _on_loopback(server: str) -> bool:
    return is_loopback(server.strip().rpartition(":")[0])
