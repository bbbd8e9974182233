"""The sections `time` and `sessions`: order, grid and bars, market hours.

Not inside: how a feature is computed (`core.event_time`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from streamer.config.calendars import sessions
from streamer.config.section import Duration, Section
from streamer.core.event_time.options import TimeOptions, parse_feature
from streamer.core.sessions import Sessions
from streamer.formats.nearest import did_you_mean

ContextName = Literal["time-of-day", "day-of-week", "session-phase"]


class TimeConfig(Section):
    """Event time: order, grid and bars, and what the model sees of them."""

    lateness: Duration = 0.0  # how late a reading may come and still be put in its place; 0: no delay
    idle: Duration = 60.0  # wall clock without records, then what a partition holds back is released; 0: never
    grid: Duration = 0.0  # interval of one bar, on which the model works; 0: readings are taken as they come
    bars: Literal["time", "ticks", "volume"] = "time"  # what closes a bar: the grid, a count, a sum
    bar_size: Annotated[float, Field(gt=0, le=1e15)] | None = None  # readings, or the sum of bar_field, of a bar
    bar_field: str | None = None  # volume: the feature of the records that is summed
    aggregate: str = "last"  # how a bar is made of readings, for features that do not say
    features: dict[str, str] | None = None  # name: last(price) | log_return; none: as in the records
    gap: Literal["carry", "interpolate", "missing", "reset"] = "carry"  # bars without readings
    gap_limit: Annotated[int, Field(ge=0, le=100_000)] = 10  # bars; a longer gap resets the stream's window
    max_held: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000  # readings of a stream held back in one bar
    dead_letter_late: bool = False  # send readings that come too late to the dead-letter topic
    correct: bool = False  # late readings of the newest 16 bars correct these, their scores and their incidents
    context: tuple[ContextName, ...] = ()  # calendar features: inputs of the model that are not scored

    @property
    def active(self) -> bool:
        """Whether readings are held back or changed before they reach the windows."""
        return bool(self.lateness or self.grid or self.bars != "time")

    @field_validator("features")
    @classmethod
    def _named(cls, features: dict[str, str] | None) -> dict[str, str] | None:
        if features is not None and not all(name and len(name) <= 256 for name in features):
            raise ValueError(f"wanted names of 1 to 256 characters; got {list(features)}")
        return features

    @model_validator(mode="after")
    def _consistent(self) -> TimeConfig:
        if self.bars != "time":
            if self.grid:
                raise ValueError(f"bars {self.bars} are closed by bar_size; got a grid as well: leave one out")
            if self.bar_size is None:
                raise ValueError(f"bars {self.bars} need bar_size")
            if (self.bars == "volume") != (self.bar_field is not None):
                raise ValueError("bar_field is needed for bars: volume, and for no other")
        elif self.bar_size is not None or self.bar_field is not None:
            raise ValueError("bar_size and bar_field are for bars: ticks or volume")
        if self.correct and not self.grid:
            raise ValueError("correct makes the bars of a grid again: set grid, or leave it out")
        if self.features and not (self.grid or self.bars != "time"):
            raise ValueError("features are computed from bars: set grid, such as 10s, or bars")
        return self

    def options(self, fields: tuple[str, ...], zero_is_missing: tuple[str, ...] = ()) -> TimeOptions:
        """What the station needs.

        Args:
            fields: Features of the records.
            zero_is_missing: Those in which 0 means absent.

        Raises:
            ValueError: An expression names what the records do not have.
        """
        grid = bool(self.grid or self.bars != "time")
        given = self.features or {name: f"{self.aggregate}({name})" for name in fields}
        if self.bar_field is not None and self.bar_field not in fields:
            meant = did_you_mean(self.bar_field, fields)
            raise ValueError(f"time.bar_field: wanted one of {list(fields)}; got {self.bar_field!r}{meant}")
        return TimeOptions(
            fields=fields,
            lateness_ns=round(self.lateness * 1e9),
            grid_ns=round(self.grid * 1e9),
            bars=self.bars,
            bar_size=self.bar_size or 0.0,
            bar_field=fields.index(self.bar_field) if self.bar_field is not None else 0,
            features=tuple(parse_feature(name, text, fields) for name, text in given.items()) if grid else (),
            gap=self.gap,
            gap_limit=self.gap_limit,
            max_held=self.max_held,
            zero_is_missing=tuple(fields.index(name) for name in zero_is_missing),
            context=self.context,
            correct=self.correct,
        )


class SessionsConfig(Section):
    """Market hours: a closed market is neither silence nor a gap inside a window."""

    calendar: str | None = None  # such as XNYS; of exchange_calendars, needs streamer[sessions]; none: always open
    outside: Literal["drop", "keep"] = "drop"  # readings outside of the sessions

    def build(self) -> Sessions | None:
        """The sessions, from the first to the last year that is known of the exchange.

        Raises:
            ValueError: There is no such calendar, or the package is missing.
        """
        return None if self.calendar is None else sessions(self.calendar, keep_outside=self.outside == "keep")
