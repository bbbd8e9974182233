"""An alert as it is written to the alerts topic. Docs: docs/alerts.md; JSON Schema: docs/alert.schema.json.

Pure data. Not inside: what is said of an event (`building`), in which words (`sentences`).
"""

from __future__ import annotations

import msgspec

from streamer.core.events import STREAM, Detail

SCHEMA = 2  # of the messages written now; what has no number is of version 1


class Attribution(msgspec.Struct, frozen=True):
    """How much one feature contributed, shown at the reading where it deviates most."""

    name: str  # of the feature, as `records.features` or `time.features` has it
    share: float  # of the error; all features sum to 1
    observed: float  # raw units
    expected: float  # raw units
    lower: float | None = None  # lower end of the expected band at that reading; null: not known
    upper: float | None = None  # upper end of the expected band at that reading; null: not known


class Span(msgspec.Struct, frozen=True):
    """The anomalous part of an incident by itself, without the time for which windows remember it."""

    begin: str  # time of its first reading
    end: str  # time of its last reading so far
    length_s: float  # seconds from the first to the last reading, and one interval, as the last one stands for that


class Rarity(msgspec.Struct, frozen=True):
    """How rare a peak as high is in clean data of one stream."""

    seconds: float  # between two of them
    at_least: bool  # true: it is rarer still, and the calibration data does not say how much


class Alert(msgspec.Struct, frozen=True, omit_defaults=False):
    """One message on the alerts topic. Times are ISO 8601 in UTC, event time."""

    alert_id: str  # of this message: the same if it is sent again
    incident_id: str  # of the incident: the same in all its messages
    event: str  # open, update or resolve
    kind: str  # anomaly, silence, or the rule that was broken
    severity: str  # info | warning | critical
    stream: str  # whom it is about: a stream, or topic[partition], or the topic, as scope says
    onset: str  # when it began: first anomalous score, last reading before a silence
    time: str  # of the reading that led to this message
    score: float  # at that time; 1.0 is the alert line
    peak_score: float  # highest score of the incident so far
    features: list[Attribution]  # largest share first; only features with a value in the window
    model_version: str  # bundle in use
    summary: str  # one sentence
    dashboard: str | None  # link to the stream at that time, if `alerting.dashboard_url` is set
    filled: float = 0.0  # fraction of the window's values that were missing and filled in
    scope: str = STREAM  # stream | partition | topic
    reason: str | None = None  # on resolve: quiet | expired | corrected | moved | records_lost
    details: dict[str, Detail] = {}  # figures of a rule or of a silence: bid, ask, streams
    cold_start: bool = False  # the stream's past was lost, and it has had too little history since
    schema: int = 1  # version of this message; a message without it is of version 1
    span: Span | None = None  # of an anomaly, where single readings show it
    rarity: Rarity | None = None  # of an anomaly's peak, where the bundle holds a tail
    in_training: bool | None = None  # whether the bundle was trained on the stream; null: it is about no single one
    muted: str | None = None  # the rule or maintenance window that keeps it from people, and why

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def decode(message: bytes) -> Alert:
        """What `encode` made, in any version: fields it lacks have their defaults, unknown ones are left out.

        Raises:
            msgspec.ValidationError: It is no alert; `msgspec.DecodeError`: it is no JSON.
        """
        return _decoder.decode(message)


_decoder = msgspec.json.Decoder(Alert)
