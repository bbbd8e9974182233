"""The section `notifications`: who is told of which incident.

Calendars and time zones end here: what goes on is moments. A recurrence is an RRULE of RFC 5545 in local time. Not
inside: what a rule does (`core.notifying`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr
from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamer.config.section import Duration, Positive, Section
from streamer.core.events import CRITICAL_FROM, KINDS, WARNING_FROM
from streamer.core.notifying import Begins, Levels, Maintenance, Match, NotifyingOptions, RateLimit, Rule
from streamer.formats.nearest import did_you_mean

LAST_YEAR = 2100  # windows that recur do so up to its end
STARTS_A_DAY = 24
_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY")
_PARTS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY", "BYSETPOS",
          "BYHOUR", "BYMINUTE", "WKST")  # fmt: skip
_EXAMPLE = "FREQ=WEEKLY;BYDAY=SA"


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _moment(value: Any) -> Any:
    """YAML knows times; the environment has text.

    Raises:
        ValueError: It is no time.
    """
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time())
    raise ValueError(f"wanted a time such as 2026-01-03T02:00:00Z; got {str(value)[:50]!r}")


def _kind(value: Any) -> Any:
    if value not in KINDS:
        raise ValueError(f"wanted one of {', '.join(KINDS)}; got {str(value)[:50]!r}{did_you_mean(str(value), KINDS)}")
    return value


Name = Annotated[str, Field(min_length=1, max_length=100)]
Pattern = Annotated[str, Field(min_length=1, max_length=256)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(_one_or_more), Field(max_length=1000)]
Kinds = Annotated[tuple[Annotated[str, BeforeValidator(_kind)], ...], BeforeValidator(_one_or_more)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class _Matching(Section):
    name: Name  # said in alerts and logs
    streams: Patterns = ("*",)  # patterns, such as boiler-*
    features: Patterns = ()  # patterns of the leading feature; none: any, and none
    kinds: Kinds = ()  # anomaly, silence, ...; none: all

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError(f"wanted a name in one line without control characters; got {name!r}")
        return name

    @field_validator("streams")
    @classmethod
    def _some(cls, streams: tuple[str, ...]) -> tuple[str, ...]:
        if not streams:
            raise ValueError('wanted a pattern at least; for all streams leave it out, or say ["*"]')
        return streams

    @property
    def match(self) -> Match:
        return Match(self.streams, self.features, self.kinds)


class SeverityConfig(Section):
    """Peak scores from which an anomaly is of a severity."""

    warning: Positive = WARNING_FROM
    critical: Positive = CRITICAL_FROM

    @model_validator(mode="after")
    def _rises(self) -> SeverityConfig:
        if self.warning > self.critical:
            raise ValueError(f"warning must be at most critical {self.critical:g}; got {self.warning:g}")
        return self


class RuleConfig(_Matching):
    """What holds for the incidents it matches."""

    mute: bool | None = None  # nobody is told
    direction: Literal["above", "below", "both"] | None = None  # observed against expected, of the leading feature
    least_deviation: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None  # in the feature's own units
    least_relative_deviation: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None  # part of expected
    least_severity: Literal["info", "warning", "critical"] | None = None  # below it nobody is told
    severity: SeverityConfig | None = None

    @model_validator(mode="after")
    def _says_something(self) -> RuleConfig:
        if self.built == Rule(self.name, self.match):
            raise ValueError(f"rule {self.name!r} changes nothing: give it mute, direction, least_deviation, "
                             "least_relative_deviation, least_severity or severity")  # fmt: skip
        return self

    @property
    def built(self) -> Rule:
        return Rule(
            self.name,
            self.match,
            self.mute,
            self.direction,
            self.least_deviation,
            self.least_relative_deviation,
            self.least_severity,
            None if self.severity is None else Levels(self.severity.warning, self.severity.critical),
        )


class MaintenanceConfig(_Matching):
    """Windows in which what happens is expected."""

    begin: Moment  # of the first window; without an offset it is local
    lasts: Duration  # of every window
    rrule: Annotated[str, Field(max_length=256)] | None = None  # when it recurs; none: once
    timezone: str = "UTC"  # local time, such as Europe/Berlin

    @field_validator("lasts")
    @classmethod
    def _some_time(cls, lasts: float) -> float:
        if not 1 <= lasts <= 366 * 86_400:
            raise ValueError(f"wanted a duration from 1s to 366d; got {lasts:g} s")
        return lasts

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, KeyError):  # not found, no name of one, a folder
            raise ValueError(f"wanted a time zone such as Europe/Berlin; got {name[:50]!r}") from None
        return name

    @model_validator(mode="after")
    def _recurs(self) -> MaintenanceConfig:
        self._local()
        if self.rrule is not None and next(self._moments(), None) is None:
            raise ValueError(f"rrule: {self.rrule} has no occurrence")
        return self

    @property
    def built(self) -> Maintenance:
        return Maintenance(self.name, self.match, round(self.lasts * 1e9), Begins(self._moments()))

    def _moments(self) -> Iterator[int]:
        """Unix ns of every begin."""
        zone = ZoneInfo(self.timezone)
        locals_ = [self._local()] if self.rrule is None else _occurrences(self.rrule, self._local(), zone)
        for local in itertools.takewhile(lambda one: one.year <= LAST_YEAR, locals_):
            # A time that the clocks leave out is read by the clock before the change; one they repeat is the first.
            yield int(local.replace(tzinfo=zone).timestamp()) * 1_000_000_000

    def _local(self) -> datetime:
        """The first begin by the local clock."""
        if not 1970 <= self.begin.year <= LAST_YEAR:
            raise ValueError(f"begin: wanted a time from 1970 to {LAST_YEAR}; got {self.begin.isoformat()}")
        begin = self.begin.replace(microsecond=0)
        return begin if begin.tzinfo is None else begin.astimezone(ZoneInfo(self.timezone)).replace(tzinfo=None)


class LimitConfig(Section):
    """How many incidents of one stream are told; more are muted."""

    at_most: Annotated[int, Field(ge=1, le=1000)]
    within: Duration

    @field_validator("within")
    @classmethod
    def _some_time(cls, within: float) -> float:
        if within <= 0:
            raise ValueError("wanted a duration such as 1d; got 0")
        return within


Rules = Annotated[tuple[RuleConfig, ...], Field(max_length=1000)]
Windows = Annotated[tuple[MaintenanceConfig, ...], Field(max_length=1000)]


class NotificationsConfig(Section):
    """Who is told of which incident; see docs/notifications.md."""

    rules: Rules = ()  # the first that matches and makes a setting decides it
    maintenance: Windows = ()  # windows in which incidents are muted: streams, begin, lasts, rrule, timezone
    incidents_per_stream: LimitConfig | None = None  # {at_most: 6, within: 1d}: more are muted; none: no limit

    @model_validator(mode="after")
    def _names_differ(self) -> NotificationsConfig:
        for section, entries in (("rules", self.rules), ("maintenance", self.maintenance)):
            names = [entry.name for entry in entries]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"{section}: wanted names that differ, as alerts give them; {twice[0]!r} stands there twice"
                )
        return self

    def options(self) -> NotifyingOptions | None:
        """What the station needs; None: nothing is configured."""
        if not (self.rules or self.maintenance or self.incidents_per_stream):
            return None
        limit = self.incidents_per_stream
        return NotifyingOptions(
            rules=tuple(rule.built for rule in self.rules),
            maintenance=tuple(window.built for window in self.maintenance),
            per_stream=None if limit is None else RateLimit(limit.at_most, round(limit.within * 1e9)),
        )


def _occurrences(text: str, begin: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Local begins, in order.

    Raises:
        ValueError: It is no RRULE, or one that is not taken here.
    """
    parts = _parts(text)
    until = parts.pop("UNTIL", None)
    rule = _rule(parts, begin)
    if until is not None:
        rule = rule.replace(until=_until(until, zone))
    # Without an occurrence in 28 years, in which every date falls on every day of the week, there is none at all: found
    # out near the end of the calendar, as the search goes on to there.
    bare = {name: value for name, value in parts.items() if name not in ("COUNT", "INTERVAL")}
    if next(iter(_rule(bare, datetime(9971, 1, 1, begin.hour, begin.minute))), None) is None:
        raise ValueError(f"rrule: {text} has no occurrence")
    return iter(rule)


def _parts(text: str) -> dict[str, str]:
    found = [part.partition("=") for part in text.upper().removeprefix("RRULE:").rstrip(";").split(";")]
    parts = {name.strip(): value.strip() for name, _, value in found}
    if len(parts) < len(found) or not all(re.fullmatch(r"[-+0-9A-Z,]+", value) for value in parts.values()):
        raise ValueError(f"rrule: wanted an RRULE such as {_EXAMPLE}; got {text!r}")
    for name in parts:
        if name not in _PARTS:
            raise ValueError(f"rrule: wanted parts among {', '.join(_PARTS)}; got {name!r}{did_you_mean(name, _PARTS)}")
    if parts.get("FREQ") not in _FREQUENCIES:
        raise ValueError(
            f"rrule: wanted FREQ of {', '.join(_FREQUENCIES)}, with BYHOUR for several begins a day; "
            f"got {parts.get('FREQ', 'none')}"
        )
    for name, most in (("INTERVAL", 1000), ("COUNT", 100_000)):
        if not (parts.get(name, "1").isdigit() and 1 <= int(parts.get(name, "1")) <= most):
            raise ValueError(f"rrule: wanted {name} from 1 to {most}; got {parts[name]}")
    # For a weekday that no month or year has so many of, dateutil leaves its calendar, maybe only in a later year.
    most = 5 if parts["FREQ"] == "MONTHLY" or "BYMONTH" in parts else 53
    for day in parts.get("BYDAY", "").split(","):
        number = re.match(r"[-+]?(\d+)", day)
        if number and not 1 <= int(number[1]) <= most:
            raise ValueError(f"rrule: wanted BYDAY with numbers from 1 to {most}, such as 1MO or -1SU; got {day}")
    starts = (parts.get("BYHOUR", "").count(",") + 1) * (parts.get("BYMINUTE", "").count(",") + 1)
    if starts > STARTS_A_DAY:
        raise ValueError(f"rrule: wanted at most {STARTS_A_DAY} begins a day; got {starts}")
    return parts


def _rule(parts: dict[str, str], begin: datetime) -> rrule:
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    try:
        rule = rrulestr(text, dtstart=begin)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"rrule: wanted an RRULE such as {_EXAMPLE}; got {text!r}: {error}") from None
    assert isinstance(rule, rrule)
    return rule


def _until(text: str, zone: ZoneInfo) -> datetime:
    """The last moment at which a window may begin, by the local clock."""
    for form in ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d"):
        try:
            found = datetime.strptime(text, form)
        except ValueError:
            continue
        if form.endswith("Z"):
            return found.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None)
        return found if "T" in form else found + timedelta(days=1, seconds=-1)
    raise ValueError(f"rrule: wanted UNTIL such as 20261231 or 20261231T235959Z; got {text!r}")
