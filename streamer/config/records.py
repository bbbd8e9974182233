"""The `records` section: what a message looks like.

Not inside: what becomes of readings in time (`event_time`), how a format is decoded (`formats`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamer.config.section import Duration, Positive, Section
from streamer.formats import FormatOptions
from streamer.formats.nearest import did_you_mean
from streamer.formats.shapes import fields_of

Format = Literal["json", "csv", "tsv", "msgpack", "avro", "json-schema", "protobuf", "influx"]

StreamFields = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    Field(min_length=1, max_length=16),
]


class RecordsConfig(Section):
    """Format of a message, and where in it the stream, the time and the values are."""

    format: Format = "json"  # format of a message
    readings: str | None = None  # field with a list of readings in one message; "@root": the message is a list
    stream: StreamFields = ("stream",)  # field with the stream's name, or several; "@key" uses the message key
    timestamp: str = "timestamp"  # field with the event time; "@kafka": the record's own, "@header:NAME": of a header
    timestamp_unit: Literal["iso8601", "s", "ms", "us", "ns"] = "iso8601"  # numbers are Unix time
    features: Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]  # dots address nested fields
    metric: str | None = None  # one metric per message: the field that names it; features are such names then
    value: str = "value"  # one metric per message: the field with its value
    sequence: str | None = None  # field with a sequence number: equal times and numbers are duplicates
    text_numbers: bool = False  # numbers may be written as text, "21.5"
    zero_is_missing: tuple[str, ...] = ()  # features in which 0 means absent
    columns: tuple[str, ...] = ()  # csv, tsv: names of the columns; none: the first line of each message has them
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None  # csv; none: a comma, of tsv a tab
    missing: Literal["refuse", "fill"] = "refuse"  # null or absent features: dead-letter, or fill them in
    max_readings: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000  # of one message; more are dead-lettered
    max_record_bytes: Annotated[int, Field(ge=64)] = 1_000_000  # longer messages are dead-lettered
    max_streams: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000  # of a replica; new names beyond are rejected
    stream_ttl: Duration = 604_800.0  # event time without readings, then a stream is forgotten: 7d, 12h; 0: never
    max_future_s: Positive = 3600.0  # a reading further ahead of the broker's clock is dead-lettered

    @field_validator("features")
    @classmethod
    def _distinct(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(features)) < len(features):
            raise ValueError(f"feature names must differ; got {list(features)}")
        return features

    @model_validator(mode="after")
    def _apart(self) -> RecordsConfig:
        names = [] if self.metric else list(self.features)
        names += [
            name for name in (self.timestamp, *self.stream, self.metric, self.sequence) if name and name[0] != "@"
        ]
        names += [self.value] if self.metric else []
        odd = sorted(set(self.zero_is_missing) - set(self.features))
        if odd:
            meant = did_you_mean(odd[0], self.features)
            raise ValueError(f"zero_is_missing: wanted names among features {list(self.features)}; got {odd}{meant}")
        for name in names:
            if not all(name.split(".")):
                raise ValueError(f"wanted names of fields, or several joined by single dots (a.b); got {name!r}")
        for i, name in enumerate(names):
            for other in names[:i] + names[i + 1 :]:
                if name == other or other.startswith(name + "."):
                    raise ValueError(
                        f"stream, timestamp and features must be different fields; got {name!r} and {other!r}"
                    )
        return self

    @model_validator(mode="after")
    def _fits_the_format(self) -> RecordsConfig:
        rows = self.format in ("csv", "tsv")
        if self.readings is not None and (rows or self.format == "influx"):
            raise ValueError(f"readings: every line of {self.format} is a reading already; leave it out")
        if self.readings is not None and not all(self.readings.split(".")):
            raise ValueError(f"readings: wanted the name of a field, a.b, or @root; got {self.readings!r}")
        if self.readings is not None and (
            deep := [name for name in fields_of(self.format_options()) if name.startswith(f"{self.readings}.")]
        ):
            raise ValueError(
                f"fields of an element are named from inside readings {self.readings!r}: "
                f"wanted {deep[0].removeprefix(self.readings + '.')!r}; got {deep[0]!r}"
            )
        if not rows and (self.columns or self.delimiter is not None):
            raise ValueError(f"columns and delimiter are for format csv and tsv; got format {self.format}")
        if self.delimiter in ('"', "\r", "\n"):
            raise ValueError(f"delimiter: wanted a character that parts cells; got {self.delimiter!r}")
        if self.columns:
            lost = [name for name in fields_of(self.format_options()) if name not in self.columns]
            if lost or len(set(self.columns)) < len(self.columns):
                raise ValueError(
                    f"columns: wanted different names, {lost or 'each once'} among them; got {self.columns}"
                )
        return self

    @property
    def may_miss(self) -> tuple[int, ...]:
        """Features that a reading may lack."""
        some = self.missing == "refuse" and self.metric is None
        return tuple(i for i, name in enumerate(self.features) if not some or name in self.zero_is_missing)

    def format_options(self, *, exact: bool = False) -> FormatOptions:
        """What the decoder of messages needs.

        Args:
            exact: Values as 64-bit floats.
        """
        return FormatOptions(
            features=self.features,
            stream=self.stream,
            timestamp=self.timestamp,
            timestamp_unit=self.timestamp_unit,
            missing=self.missing,
            max_record_bytes=self.max_record_bytes,
            max_streams=self.max_streams,
            max_future_ns=int(self.max_future_s * 1e9),
            format=self.format,
            readings=self.readings,
            metric=self.metric,
            value=self.value,
            sequence=self.sequence,
            zero_is_missing=self.zero_is_missing,
            columns=self.columns or None,
            delimiter=self.delimiter,
            exact=exact,
            text_numbers=self.text_numbers,
            max_readings=self.max_readings,
        )
