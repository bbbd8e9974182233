"""Every setting with its default and bound, and the rules between settings.

Frozen, handed in, never read from here by name. Large sections have modules of their own
(`kafka`, `records`, `state`, ...). The README's reference is generated from them:
`tools/config_reference.py` takes the words from the comment beside each field. Not inside:
where values come from (`loading`), how a fault is worded (`wording`), and anything that
acts on a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.network.architecture import Architecture, BackboneName, RegulariserName
from streamer.config.event_time import SessionsConfig, TimeConfig
from streamer.config.files import FilesConfig
from streamer.config.http import HttpConfig
from streamer.config.incidents import IncidentsConfig
from streamer.config.kafka import KafkaConfig
from streamer.config.limits import LimitsConfig
from streamer.config.notifications import NotificationsConfig
from streamer.config.records import RecordsConfig
from streamer.config.rules import RulesConfig
from streamer.config.schema_registry import SchemaRegistryConfig
from streamer.config.section import Positive, Section, is_loopback
from streamer.config.sinks import SinksConfig, is_sink_secret
from streamer.config.state import StateConfig
from streamer.core import calendar
from streamer.core.durations import duration_text
from streamer.core.event_time.options import TimeOptions
from streamer.core.incidents import Rule
from streamer.core.options import PipelineOptions
from streamer.core.rules.options import RulesOptions
from streamer.formats import FormatOptions
from streamer.formats.framed import FORMATS as FRAMED

SECRET_KEYS = frozenset(
    {
        ("kafka", "sasl_password"),
        ("kafka", "ssl_key_password"),
        ("schema_registry", "password"),
        ("incidents", "password"),
    }
)


def is_secret(keys: Sequence[str]) -> bool:
    """Whether a setting, by section and key, must not be shown nor stand in the configuration file."""
    return tuple(keys[:2]) in SECRET_KEYS or is_sink_secret(keys)


Intervals = Annotated[float, Field(gt=1, le=1e6, allow_inf_nan=False)]


class WindowConfig(Section):
    """How each stream is cut into windows; lengths are in readings."""

    length: Annotated[int, Field(ge=8, le=4096)] = 64  # readings per window
    patch: Annotated[int, Field(ge=1, le=512)] = 8  # readings per LSTM step
    stride: Annotated[int, Field(ge=1)] = 1  # readings between two windows of a stream
    max_gap_s: Positive | None = None  # a gap longer than this resets the stream's window, seconds; none: never

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
    backbone: BackboneName = "lstm"  # kind of encoder and decoder
    regulariser: RegulariserName = "plain"  # regularisation against overfitting
    strength: Annotated[float, Field(gt=0, le=100)] | None = None  # of the regulariser; unit in docs/models.md
    target_activation: Annotated[float, Field(gt=0, lt=1)] | None = None  # for sparse-kl; none: 0.05
    hidden: Annotated[int, Field(ge=2, le=4096)] = 64  # units per layer
    latent: Annotated[int, Field(ge=1, le=4096)] = 16  # width of the bottleneck
    layers: Annotated[int, Field(ge=1, le=8)] = 1  # layers in encoder and in decoder
    epochs: Annotated[int, Field(ge=1)] = 24  # maximum
    steps_per_epoch: Annotated[int, Field(ge=1)] = 50  # maximum; fewer if the data has fewer windows
    patience: Annotated[int, Field(ge=1)] = 5  # early stopping: epochs without improvement, in the second half
    batch_size: Annotated[int, Field(ge=1)] = 256  # windows per training step
    learning_rate: Positive = 3e-3  # maximum of a one-cycle schedule
    device: Literal["auto", "cpu", "cuda"] = "auto"  # training device; auto: a GPU if available
    holdout: Annotated[float, Field(gt=0.02, lt=0.5)] = 0.15  # newest fraction of each stream, for calibration
    seed: int = 0  # the same seed gives the same bundle (on a CPU)
    spool_directory: Path | None = None  # directory of the temporary training store; none: model.directory
    threads: Annotated[int, Field(ge=1)] = 1  # torch threads; fixed, so that training and scores are reproducible
    poll_s: Positive = 5.0  # seconds between checks for a newer bundle

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

    budget_per_stream_per_week: Positive = 1.0  # false incidents that the alert line allows
    open_after: Annotated[int, Field(ge=1, le=64)] = 3  # readings scored at or above 1.0 that open an incident ...
    open_within: Annotated[int, Field(ge=1, le=64)] = 5  # ... among this many newest; a score counts for its stride
    exit_below: Annotated[float, Field(gt=0, le=1)] = 0.8  # hysteresis: a score below this is quiet
    resolve_after: Annotated[int, Field(ge=1)] = 32  # an incident resolves after this many quiet readings in a row
    update_factor: Annotated[float, Field(gt=1, le=1e6)] = 1.5  # growth of the peak that sends an update
    silent_after: Intervals | None = 30.0  # usual intervals of a stream without a reading until it is silent; none: off
    dashboard_url: str | None = None  # e.g. http://127.0.0.1:3000/d/streamer-stream

    @model_validator(mode="after")
    def _n_of_m(self) -> AlertingConfig:
        if self.open_after > self.open_within:
            raise ValueError(
                f"open_after must be at most open_within {self.open_within}; got {self.open_after}: "
                "n of the last m needs n <= m"
            )
        return self


class LogConfig(Section):
    """Logging, to standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"  # minimum level
    format: Literal["text", "json"] = "text"  # output format


class Settings(Section):
    """All settings of one process."""

    kafka: KafkaConfig = KafkaConfig()
    records: RecordsConfig
    schema_registry: SchemaRegistryConfig = SchemaRegistryConfig()
    time: TimeConfig = TimeConfig()
    sessions: SessionsConfig = SessionsConfig()
    rules: RulesConfig = RulesConfig()
    files: FilesConfig = FilesConfig()
    window: WindowConfig = WindowConfig()
    model: ModelConfig = ModelConfig()
    alerting: AlertingConfig = AlertingConfig()
    notifications: NotificationsConfig = NotificationsConfig()
    sinks: SinksConfig = SinksConfig()
    state: StateConfig = StateConfig()
    incidents: IncidentsConfig = IncidentsConfig()
    limits: LimitsConfig = LimitsConfig()
    http: HttpConfig = HttpConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _schemas_can_be_had(self) -> Settings:
        registry, format = self.schema_registry, self.records.format
        if format in FRAMED and registry.url is None:
            raise ValueError(f"records.format {format} needs schema_registry.url")
        if not (registry.encrypted or is_loopback(registry.host) or self.kafka.allow_insecure):
            raise ValueError(
                f"schema_registry.url {registry.url} is not on loopback and not encrypted; use https, or set "
                "kafka.allow_insecure: true on a network you trust"
            )
        return self

    @model_validator(mode="after")
    def _sinks_are_safe(self) -> Settings:
        shown = [] if self.kafka.allow_insecure else self.sinks.in_the_clear()
        if shown:
            raise ValueError(
                f"sinks: the address of {', '.join(shown)} is not on loopback and not encrypted; use https, or set "
                "kafka.allow_insecure: true on a network you trust"
            )
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> Settings:
        self.time_options()
        held_s = self.time.lateness + self.time.grid
        if 0 < self.records.stream_ttl <= held_s:
            raise ValueError(
                "records.stream_ttl must be longer than time.lateness and time.grid together, "
                f"{duration_text(held_s)}: a stream would be forgotten while its readings are waited for; got "
                f"{duration_text(self.records.stream_ttl)}"
            )
        if self.window.max_gap_s is not None and self.window.max_gap_s < self.time.grid:
            raise ValueError(
                f"window.max_gap_s: wanted at least time.grid, {self.time.grid:g} s, the step between bars; "
                f"got {self.window.max_gap_s:g} s, which would reset the window with every bar"
            )
        self.sessions.build()
        self.rules_options()
        if "session-phase" in self.context and self.sessions.calendar is None:
            raise ValueError("time.context: session-phase needs the sessions of an exchange; set sessions.calendar")
        self.architecture()
        if self.state.store == "topic":
            self.state.topic_for(self.kafka)
        self._check_incidents()
        return self

    def _check_incidents(self) -> None:
        others = [self.kafka.topic, self.kafka.alerts_topic, self.kafka.dlq_topic, self.kafka.scores_topic]
        others += [self.state.topic_for(self.kafka)] if self.state.store == "topic" else []
        if self.actions_topic in others:
            raise ValueError(f"incidents.actions_topic must be a topic of its own; got {self.actions_topic}")
        path = self.incidents.path
        if path is not None and not path.is_absolute() and self.state.directory is None:
            raise ValueError(f"incidents.store: wanted sqlite:/PATH, as there is no state.directory; got sqlite:{path}")
        if self.incidents.exposed and not self.kafka.allow_insecure:
            raise ValueError(
                "incidents.store is not on loopback and not encrypted; add ?sslmode=verify-full&sslrootcert=FILE, or "
                "set kafka.allow_insecure: true on a network you trust"
            )

    @property
    def actions_topic(self) -> str:
        """Where what people do about incidents is written."""
        return self.incidents.actions_topic or f"{self.kafka.topic}.actions"

    @property
    def incidents_file(self) -> Path | None:
        """The file with the store of incidents; None: it is no file."""
        path = self.incidents.path
        return None if path is None else (self.state.directory or Path()) / path

    @property
    def features(self) -> tuple[str, ...]:
        """What the model sees: `time.features` if there are any, else the fields of the records."""
        return tuple(self.time.features or ()) or self.records.features

    @property
    def context(self) -> tuple[str, ...]:
        """Calendar features: inputs of the model that are not scored."""
        return self.time.context

    def format_options(self) -> FormatOptions:
        """What the decoder of messages needs."""
        return self.records.format_options(exact=self.time.active)

    def time_options(self) -> TimeOptions:
        """What becomes of readings between decoding and windows.

        Raises:
            ValueError: `time` asks for fields that the records do not have.
        """
        return self.time.options(self.records.features, self.records.zero_is_missing)

    def rules_options(self) -> RulesOptions:
        """What the rules watch.

        Raises:
            ValueError: A rule names what the records do not have.
        """
        return self.rules.options(self.records.features, has_sequence=self.records.sequence is not None)

    def architecture(self) -> Architecture:
        """The network that window, features and model describe.

        Raises:
            ShapeError: They do not fit together; a `ValueError`, so pydantic reports it.
        """
        return Architecture(
            features=len(self.features),
            context=calendar.width(self.context),
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
            features=self.features,
            fields=self.records.features,
            may_miss=self.records.may_miss,
            time=self.time_options(),
            sessions=self.sessions.build(),
            rules=self.rules_options(),
            context=calendar.described(self.context, self.sessions.calendar),
            window=window.length,
            patch=window.patch,
            budget_per_stream_per_week=alerting.budget_per_stream_per_week,
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
            max_future_ns=int(self.records.max_future_s * 1e9),
            stream_ttl_ns=int(self.records.stream_ttl * 1e9) or None,
            dashboard_url=alerting.dashboard_url,
            notifying=self.notifications.options(),
        )
