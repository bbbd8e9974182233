"""What the pipeline needs to know: the small frozen options of its stations, in one place.

Made by `config` from the settings; nothing here reads a file or the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.scoring.alert_line import AlertPolicy
from streamer.core.event_time.options import TimeOptions
from streamer.core.incidents import Rule
from streamer.core.notifying.options import NotifyingOptions
from streamer.core.resets import Resets
from streamer.core.rules.options import RulesOptions
from streamer.core.sessions import Sessions


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Shapes and rules of all stations."""

    topic: str  # part of every incident's identity
    features: tuple[str, ...]
    window: int  # readings
    patch: int  # readings
    fields: tuple[str, ...] = ()  # features of the readings as sent; `features` are those the model sees
    time: TimeOptions = field(default_factory=TimeOptions)
    sessions: Sessions | None = None  # market hours; None: always open
    context: tuple[str, ...] = ()  # calendar inputs that follow the features, as `calendar.described` names them
    budget_per_stream_per_week: float = 1.0  # false incidents that the alert line allows
    stride: int = 1  # readings between two windows of a stream
    max_gap_ns: int | None = None  # a longer step resets a stream's window; None: never
    rule: Rule = field(default_factory=Rule)
    silent_after: float | None = 30.0  # typical intervals without a reading; None: silence is not watched
    max_future_ns: int = 3_600_000_000_000  # how far ahead of its partition a reading may be whose record has no time
    stream_ttl_ns: int | None = None  # event time without a reading after which a stream is forgotten; None: never
    dashboard_url: str | None = None
    rules: RulesOptions = field(default_factory=RulesOptions)
    notifying: NotifyingOptions | None = None  # who is told; None: everybody of everything
    may_miss: tuple[int, ...] = ()  # fields that a reading as sent may lack

    @property
    def resets(self) -> Resets:
        """What resets a stream's window between two readings of the model.

        On a grid, gaps that are not filled in are those at which it is reset.
        """
        if self.time.features and self.time.bars == "time":
            return Resets(self.time.grid_ns, self.sessions, self.time.grid_ns)
        return Resets(self.max_gap_ns, self.sessions)

    @property
    def policy(self) -> AlertPolicy:
        """What the alert line is computed for."""
        rule = self.rule
        return AlertPolicy(self.budget_per_stream_per_week, rule.open_after, rule.open_within, self.stride)
