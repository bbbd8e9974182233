"""Settings: read once, frozen, handed in.

Inside: every setting with its default and bound, the reading of one YAML file,
environment variables and `*_FILE` secrets, and the wording of what is wrong.
This is the only module that reads `os.environ`. Not inside: anything that acts
on a setting.

Order, strongest first: environment (`STREAMER_KAFKA__TOPIC=...`), environment
files (`STREAMER_KAFKA__SASL_PASSWORD_FILE=/run/secrets/...`), the YAML file,
defaults. Secrets are refused in the YAML file.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from models.network.architecture import Architecture
from streamer.errors import ConfigError

ENV_PREFIX = "STREAMER_"
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
    open_after: Annotated[int, Field(ge=1, le=64)] = 3  # scores at or above 1.0 that open an incident ...
    open_within: Annotated[int, Field(ge=1, le=64)] = 5  # ... among so many newest
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


def load(path: Path | None, environ: dict[str, str] | None = None) -> Settings:
    """Read, merge and check the settings.

    Args:
        path: YAML file, or None for environment and defaults alone. Relative
            directories inside it are relative to the file.
        environ: Environment; `os.environ` when None.

    Raises:
        ConfigError: Unreadable file, unknown key, value out of bounds, a secret
            in the file. One line for each fault: key, wanted, got, where from.
    """
    environ = dict(os.environ) if environ is None else environ
    from_file = _read_yaml(path) if path else {}
    for section, key in SECRET_KEYS:
        if isinstance(from_file.get(section), dict) and key in from_file[section]:
            variable = f"{ENV_PREFIX}{section}__{key}".upper()
            raise ConfigError(
                f"{section}.{key}: secrets do not belong in {path}; set {variable}_FILE to a file that holds it, "
                f"or {variable}"
            )
    from_env, sources = _read_environment(environ)
    merged = _merge(from_file, from_env)
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(fault, path, sources) for fault in error.errors())) from None
    return _resolve_paths(settings, path.parent if path else Path())


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--config: wanted a readable YAML file; {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config: wanted UTF-8 text; {path}: {error.reason} at byte {error.start}") from None
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        # Only where and what kind: the text itself may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            f"--config: wanted valid YAML; {path}{where}: {getattr(error, 'problem', None) or 'not readable'}"
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"--config: wanted sections such as 'kafka:'; {path} holds a {type(data).__name__}")
    return {section: {} if value is None else value for section, value in data.items()}


def _read_environment(environ: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings in `STREAMER_SECTION__KEY[_FILE]`, and which variable each came from."""
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    # Plain variables come after files, so that they win.
    for name in sorted(environ, key=lambda name: (not name.endswith("_FILE"), name)):
        section, separator, key = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if not name.startswith(ENV_PREFIX) or not separator:
            continue
        text: Any = environ[name]
        if key.endswith("_file"):
            key = key.removesuffix("_file")
            try:
                text = Path(text).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                # Not what stands there: it may be the secret itself, put in the wrong variable.
                why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
                raise ConfigError(f"{section}.{key}: wanted the name of a readable file in {name}; {why}") from None
        value: Any = text
        if (section, key) == ("records", "features"):
            value = [part.strip() for part in text.split(",")]
        elif text.lower() in ("", "null", "none") and (section, key) not in SECRET_KEYS:
            value = None
        found.setdefault(section, {})[key] = value
        sources[f"{section}.{key}"] = name
    return found, sources


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inside = merged.get(key)
        merged[key] = _merge(inside, value) if isinstance(inside, dict) and isinstance(value, dict) else value
    return merged


def _explain(fault: Any, path: Path | None, sources: dict[str, str]) -> str:
    """One sentence from one pydantic fault; never prints the value of a secret."""
    keys = [str(part) for part in fault["loc"]]
    name = ".".join(keys) or "settings"
    source = _source(keys, path, sources)
    if fault["type"] == "missing":
        return f"{name}: wanted a value; got nothing in {source}"
    if fault["type"] == "extra_forbidden":
        return f"{name}: no such setting (from {source}); see the configuration reference in the README"
    wanted = fault["msg"].removeprefix("Value error, ").replace("Input should be", "wanted")
    got = fault["input"]
    if tuple(keys[:2]) in SECRET_KEYS or isinstance(got, (dict, BaseModel)):
        return f"{name}: {wanted} (from {source})"
    # A whole section that is no mapping may hold a secret: only its kind is said.
    said = repr(got) if len(keys) > 1 else f"a {type(got).__name__}"
    return f"{name}: {wanted}; got {said} from {source}"


def _source(keys: list[str], path: Path | None, sources: dict[str, str]) -> str:
    """Where a setting came from; for a rule over a whole section, every place that set a part of it."""
    if len(keys) > 1 and ".".join(keys[:2]) in sources:
        return sources[".".join(keys[:2])]
    variables = [] if len(keys) > 1 else sorted(v for k, v in sources.items() if k.split(".")[0] == keys[0])
    if keys and keys[0] not in Settings.model_fields and variables:
        return ", ".join(variables)
    return ", ".join([str(path) if path else "the defaults", *variables])


def _resolve_paths(settings: Settings, base: Path) -> Settings:
    """Make relative directories relative to the configuration file, wherever the process was started."""
    model = settings.model.model_copy(update={"directory": base / settings.model.directory})
    if model.spool_directory is not None:
        model = model.model_copy(update={"spool_directory": base / model.spool_directory})
    state = settings.state
    if state.directory is not None:
        state = state.model_copy(update={"directory": base / state.directory})
    files = {key: getattr(settings.kafka, key) for key in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")}
    kafka = settings.kafka.model_copy(update={key: base / file for key, file in files.items() if file is not None})
    return settings.model_copy(update={"kafka": kafka, "model": model, "state": state})
