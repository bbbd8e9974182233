"""Every setting with its default and bound, and the rules between settings.

Frozen, handed in, never read from here by name. The README's reference is generated from
this module: `tools/config_reference.py` takes the words from the comment beside each
field. Not inside: where values come from (`loading`), how a fault is worded (`wording`),
and anything that acts on a setting.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from models.network.architecture import Architecture
from streamer.core.incidents import Rule
from streamer.core.options import PipelineOptions
from streamer.formats.json_objects import JsonOptions

SECRET_KEYS = frozenset({("kafka", "sasl_password"), ("kafka", "ssl_key_password")})

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Regulariser = Literal["plain", "denoising", "sparse", "sparse-kl", "contractive", "variational", "adversarial"]
Intervals = Annotated[float, Field(gt=1, le=1e6, allow_inf_nan=False)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


def _is_loopback(server: str) -> bool:
    host = server.strip().rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """Frozen, and an unknown key is an error rather than a silent typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaConfig(Section):
    """Where readings come from and where alerts and dead letters go."""

    bootstrap_servers: str = "127.0.0.1:9092"  # host:port, several with commas
    topic: TopicName = "readings"  # where readings come from
    group: Annotated[str, Field(min_length=1, max_length=249)] = "streamer"  # consumer group; replicas share one
    alerts_topic: TopicName = "streamer.alerts"  # where alerts go
    dead_letter_topic: TopicName | None = None  # where records that are no readings go; none: "<topic>.dlq"
    scores_topic: TopicName | None = None  # where every score goes; none: nowhere
    client: Literal["kafka-python", "confluent"] = "kafka-python"  # confluent: faster, an extra of that name
    client_id: str = "streamer"  # name in the broker's logs
    start: Literal["earliest", "latest"] = "earliest"  # where a group without offsets begins
    create_topics: bool = False  # create missing topics at start-up (demo, compose)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"  # how to connect
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"  # how to log in
    sasl_username: str | None = None  # needed with SASL
    sasl_password: SecretStr | None = None  # environment or file only
    ssl_cafile: Path | None = None  # certificates to trust, PEM; none: the system's
    ssl_certfile: Path | None = None  # our certificate, PEM
    ssl_keyfile: Path | None = None  # its key, PEM
    ssl_key_password: SecretStr | None = None  # environment or file only
    allow_insecure: bool = False  # permit an unencrypted connection off loopback
    max_poll_records: Annotated[int, Field(ge=1, le=100_000)] = 5000  # largest batch
    session_timeout_ms: Annotated[int, Field(ge=1000, le=1_800_000)] = 45_000  # then the group goes on without us
    request_timeout_ms: Annotated[int, Field(ge=1000, le=600_000)] = 30_000  # one request to the broker
    delivery_timeout_s: Positive = 30.0  # one flush of alerts and dead letters
    probe_timeout_s: Positive = 15.0  # start-up proof of connection and rights

    @property
    def dlq_topic(self) -> str:
        return self.dead_letter_topic or f"{self.topic}.dlq"

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
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password; set "
                "STREAMER_KAFKA__SASL_USERNAME and STREAMER_KAFKA__SASL_PASSWORD_FILE"
            )
        if self.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT") and not self.allow_insecure:
            for server in self.bootstrap_servers.split(","):
                if not _is_loopback(server):
                    raise ValueError(
                        f"bootstrap server {server.strip()!r} is not on loopback and {self.security_protocol} is not "
                        "encrypted; use SSL or SASL_SSL, or set kafka.allow_insecure: true on a network you trust"
                    )
        names = [self.topic, self.alerts_topic, self.dlq_topic] + ([self.scores_topic] if self.scores_topic else [])
        if len(set(names)) < len(names):
            raise ValueError(f"topic, alerts_topic, dead_letter_topic and scores_topic must differ; got {names}")
        return self


class RecordsConfig(Section):
    """What one message looks like: a JSON object, one reading of one stream."""

    stream: str = "stream"  # field that names the stream; "@key" takes the message key
    timestamp: str = "timestamp"  # field with the event time
    timestamp_unit: Literal["iso8601", "s", "ms", "us", "ns"] = "iso8601"  # numbers count from 1970
    features: Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]  # fields, dots reach into objects
    missing: Literal["refuse", "fill"] = "refuse"  # a feature that is null or absent: a dead letter, or filled in
    max_record_bytes: Annotated[int, Field(ge=64)] = 1_000_000  # longer messages are dead letters
    max_streams: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000  # further ones are refused and counted
    max_future_s: Positive = 3600.0  # an event time further ahead of the broker's clock is refused

    @field_validator("features")
    @classmethod
    def _distinct(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(features)) < len(features):
            raise ValueError(f"feature names must differ; got {list(features)}")
        return features

    @model_validator(mode="after")
    def _apart(self) -> RecordsConfig:
        names = [self.timestamp, *self.features] + ([] if self.stream == "@key" else [self.stream])
        for name in names:
            if not all(name.split(".")):
                raise ValueError(f"a field is a name, or names joined by single dots; got {name!r}")
        for i, name in enumerate(names):
            for other in names[:i] + names[i + 1 :]:
                if name == other or other.startswith(name + "."):
                    raise ValueError(f"stream, timestamp and features must be fields apart; got {name!r} and {other!r}")
        return self

    def json_options(self) -> JsonOptions:
        """What the decoder of messages needs."""
        return JsonOptions(
            features=self.features,
            stream=self.stream,
            timestamp=self.timestamp,
            timestamp_unit=self.timestamp_unit,
            missing=self.missing,
            max_record_bytes=self.max_record_bytes,
            max_streams=self.max_streams,
            max_future_ns=int(self.max_future_s * 1e9),
        )


class WindowConfig(Section):
    """How each stream is cut; counts are readings."""

    length: Annotated[int, Field(ge=8, le=4096)] = 64  # readings in a window
    patch: Annotated[int, Field(ge=1, le=512)] = 8  # readings that enter the LSTM as one step
    stride: Annotated[int, Field(ge=1)] = 1  # readings between two windows of a stream
    max_gap_s: Positive | None = None  # seconds; a longer silence starts the window afresh; none: never

    @model_validator(mode="after")
    def _divides(self) -> WindowConfig:
        if self.length % self.patch:
            raise ValueError(f"length must be a multiple of patch; got length {self.length} and patch {self.patch}")
        if self.stride > self.length:
            raise ValueError(f"stride must be at most length {self.length}; got {self.stride}")
        return self


class ModelConfig(Section):
    """The autoencoder and its training."""

    directory: Path = Path("bundles")  # the registry of bundles
    backbone: Literal["lstm", "gru", "dense", "conv"] = "lstm"  # kind of encoder and decoder
    regulariser: Regulariser = "plain"  # what keeps it from learning by heart
    strength: Annotated[float, Field(gt=0, le=100)] | None = None  # of the regulariser; its unit is in docs/models.md
    target_activation: Annotated[float, Field(gt=0, lt=1)] | None = None  # of sparse-kl; none: 0.05
    hidden: Annotated[int, Field(ge=2, le=4096)] = 64  # units of a layer
    latent: Annotated[int, Field(ge=1, le=4096)] = 16  # width of the bottleneck
    layers: Annotated[int, Field(ge=1, le=8)] = 1  # layers in encoder and in decoder
    epochs: Annotated[int, Field(ge=1)] = 24  # at most
    steps_per_epoch: Annotated[int, Field(ge=1)] = 50  # at most; fewer when the data has fewer windows
    patience: Annotated[int, Field(ge=1)] = 5  # epochs without a better held-out loss, in the second half
    batch_size: Annotated[int, Field(ge=1)] = 256  # windows in one step of training
    learning_rate: Positive = 3e-3  # highest, of a one-cycle schedule
    device: Literal["auto", "cpu", "cuda"] = "auto"  # to train on; auto: a GPU if there is one
    holdout: Annotated[float, Field(gt=0.02, lt=0.5)] = 0.15  # tail of each stream kept for calibration
    seed: int = 0  # same seed, same bundle (on a CPU)
    spool_directory: Path | None = None  # where training keeps its readings meanwhile; none: model.directory
    threads: Annotated[int, Field(ge=1)] = 1  # torch threads; fixed, so training and scores repeat
    poll_s: Positive = 5.0  # how often the daemon looks for a newer bundle

    @model_validator(mode="after")
    def _has_effect(self) -> ModelConfig:
        if self.regulariser == "plain" and self.strength is not None:
            raise ValueError(
                f"strength has no effect with regulariser plain; got {self.strength}: leave it out or take another"
            )
        if self.regulariser != "sparse-kl" and self.target_activation is not None:
            raise ValueError(
                f"target_activation has an effect with regulariser sparse-kl alone; got {self.target_activation} "
                f"with {self.regulariser}: leave it out"
            )
        return self


class AlertingConfig(Section):
    """When a score becomes an incident."""

    budget_per_stream_per_week: Positive = 1.0  # false incidents the line is set to allow
    open_after: Annotated[int, Field(ge=1, le=64)] = 3  # readings at or above the alert line that open an incident ...
    open_within: Annotated[int, Field(ge=1, le=64)] = 5  # ... among so many newest; a score counts for `window.stride`
    exit_below: Annotated[float, Field(gt=0, le=1)] = 0.8  # hysteresis: quiet means below this
    resolve_after: Annotated[int, Field(ge=1)] = 32  # quiet readings in a row
    update_factor: Annotated[float, Field(gt=1, le=1e6)] = 1.5  # a peak so many times the last one told is told again
    silent_after: Intervals | None = 30.0  # usual intervals without a reading; none: off
    dashboard_url: str | None = None  # e.g. http://127.0.0.1:3000/d/streamer-stream

    @model_validator(mode="after")
    def _n_of_m(self) -> AlertingConfig:
        if self.open_after > self.open_within:
            raise ValueError(
                f"open_after must be at most open_within {self.open_within}; got {self.open_after}: "
                "n of the last m needs n <= m"
            )
        return self


class StateConfig(Section):
    """Snapshots of windows and incidents, so that a restart goes on where it stopped."""

    directory: Path | None = Path("state")  # none: every start is cold
    checkpoint_s: Positive = 5.0  # seconds between checkpoints
    replay_records: Annotated[int, Field(ge=0)] = 20_000  # per partition, read again to warm up without a snapshot


class HttpConfig(Section):
    """`/metrics`, `/healthz`, `/readyz`."""

    host: str = "127.0.0.1"  # address to listen on
    port: Annotated[int, Field(ge=0, le=65535)] = 9108  # 0: any free port, logged at start
    max_stream_series: Annotated[int, Field(ge=0)] = 500  # streams with series of their own on /metrics


class LogConfig(Section):
    """Log lines, to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"  # what is logged
    format: Literal["text", "json"] = "text"  # how


class Settings(Section):
    """All settings of one process."""

    kafka: KafkaConfig = KafkaConfig()
    records: RecordsConfig
    window: WindowConfig = WindowConfig()
    model: ModelConfig = ModelConfig()
    alerting: AlertingConfig = AlertingConfig()
    state: StateConfig = StateConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _can_be_built(self) -> Settings:
        self.architecture()
        return self

    def architecture(self) -> Architecture:
        """The network that window, features and model describe.

        Raises:
            ShapeError: They do not fit together; a `ValueError`, so pydantic reports it.
        """
        return Architecture(
            features=len(self.records.features),
            window=self.window.length,
            patch=self.window.patch,
            hidden=self.model.hidden,
            latent=self.model.latent,
            layers=self.model.layers,
            backbone=self.model.backbone,
            regulariser=self.model.regulariser,
        )

    def pipeline_options(self) -> PipelineOptions:
        """What the stations between decoding and publishing need."""
        window, alerting = self.window, self.alerting
        return PipelineOptions(
            topic=self.kafka.topic,
            features=self.records.features,
            window=window.length,
            patch=window.patch,
            stride=window.stride,
            max_gap_ns=None if window.max_gap_s is None else int(window.max_gap_s * 1e9),
            rule=Rule(
                open_after=alerting.open_after,
                open_within=alerting.open_within,
                exit_below=alerting.exit_below,
                resolve_after=alerting.resolve_after,
                update_factor=alerting.update_factor,
            ),
            silent_after=alerting.silent_after,
            dashboard_url=alerting.dashboard_url,
        )
