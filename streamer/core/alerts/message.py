"""An alert as it is written to the alerts topic. Docs: docs/alerts.md; JSON Schema: docs/alert.schema.json.

Pure data. Not inside: what is said of an event (`building`), in which words (`sentences`).
"""

from __future__ import annotations

import msgspec

from streamer.core.events import STREAM, Detail

SCHEMA = 2  # of the messages written now; what has no number is of version 1


class Attribution(msgspec.Struct, frozen=True):
    """How much one feature contributed, shown at the reading where it deviates most."""

    name: str
    share: float  # of the error; all features sum to 1
    observed: float  # raw units
    expected: float
    lower: float | None = None  # expected band at that reading
    upper: float | None = None


class Span(msgspec.Struct, frozen=True):
    """The anomalous part of an incident by itself, without the time for which windows remember it."""

    begin: str  # its first reading
    end: str  # its last one so far
    length_s: float  # from the first to the last reading, which stands for one interval too


class Rarity(msgspec.Struct, frozen=True):
    """How rare a peak as high is in clean data of one stream."""

    seconds: float  # between two of them
    at_least: bool  # rarer still; the calibration data does not say how much


class Alert(msgspec.Struct, frozen=True, omit_defaults=False):
    """One message on the alerts topic. Times are ISO 8601 in UTC, event time."""

    alert_id: str
    incident_id: str
    event: str  # open | update | resolve
    kind: str  # anomaly | silence | crossed_book | locked_book | power_of_ten | stale_quote | sequence_gap | ...
    severity: str  # info | warning | critical
    stream: str  # or topic[partition], or the topic, as scope says
    onset: str
    time: str
    score: float
    peak_score: float
    features: list[Attribution]  # largest share first; only features with a value in the window
    model_version: str
    summary: str
    dashboard: str | None
    filled: float = 0.0  # fraction of the window's values that were missing and filled in
    scope: str = STREAM  # stream | partition | topic
    reason: str | None = None  # on resolve: quiet | expired | corrected | moved | records_lost
    details: dict[str, Detail] = {}  # figures of a rule or of a silence: bid, ask, streams
    cold_start: bool = False  # the stream's past was lost, and it has had too little history since
    schema: int = 1  # version of this message
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
