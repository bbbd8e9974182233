"""The section `notifications`: what is taken, what is refused and in which words, and when windows begin."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer import config
from streamer.core.notifying import Maintenance
from streamer.errors import ConfigError


def load(tmp_path: Path, notifications: Any) -> config.Settings:
    file = tmp_path / "streamer.yaml"
    file.write_text(yaml.safe_dump({"records": {"features": ["heat"]}, "notifications": notifications}))
    return config.load(file, {})


def window(tmp_path: Path, **keys: Any) -> Maintenance:
    settings = load(tmp_path, {"maintenance": [{"name": "wash", "lasts": "1h", **keys}]})
    options = settings.pipeline_options().notifying
    assert options is not None
    return options.maintenance[0]


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000_000


def begins(tmp_path: Path, until: str, **keys: Any) -> list[str]:
    """Begins up to a moment, in UTC."""
    one, found, at = window(tmp_path, **keys), [], ns(until)
    while (begin := one.begins.latest(at)) is not None:
        found.append(f"{datetime.fromtimestamp(begin / 1e9, UTC):%m-%dT%H:%M}")
        at = begin - 1
    return found[::-1]


def test_without_rules_nobody_is_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, {}).pipeline_options().notifying is None


def test_everything_can_be_said(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        {
            "rules": [
                {"name": "boiler maintenance", "streams": ["boiler-*"], "mute": True},
                {
                    "name": "only high heat",
                    "streams": ["*"],
                    "features": ["heat"],
                    "kinds": ["anomaly"],
                    "direction": "above",
                    "least_deviation": 2.0,
                    "least_relative_deviation": 0.1,
                    "least_severity": "warning",
                    "severity": {"warning": 2, "critical": 5},
                },
            ],
            "maintenance": [{"name": "wash", "streams": "line-3-*", "begin": "2026-01-03T02:00:00Z", "lasts": "3h"}],
            "incidents_per_stream": {"at_most": 6, "within": "1d"},
        },
    )

    options = settings.pipeline_options().notifying
    assert options is not None
    assert [rule.name for rule in options.rules] == ["boiler maintenance", "only high heat"]
    assert options.maintenance[0].match.streams == ("line-3-*",)
    assert options.per_stream is not None
    assert options.per_stream.within_ns == 86_400_000_000_000


def test_a_window_once(tmp_path: Path) -> None:
    one = window(tmp_path, begin="2026-01-03T02:00:00Z")

    moments = ["2026-01-03T01:59:59Z", "2026-01-03T02:00:00Z", "2026-01-03T02:59:59Z", "2026-01-03T03:00:00Z"]
    assert [one.until_ns(ns(at)) is not None for at in moments] == [False, True, True, False]


def test_a_time_without_an_offset_is_local(tmp_path: Path) -> None:
    assert begins(tmp_path, "2026-02-01T00:00Z", begin="2026-01-03T02:00:00", timezone="Europe/Berlin") == [
        "01-03T01:00"
    ]


@pytest.mark.parametrize(
    ("begin", "until", "found"),
    [
        # 29 March 2026: 02:00 becomes 03:00. What would begin at 02:30 begins an hour later by the clock.
        ("2026-03-28T02:30:00", "2026-03-31T00:00Z", ["03-28T01:30", "03-29T01:30", "03-30T00:30"]),
        ("2026-03-28T04:00:00", "2026-03-31T00:00Z", ["03-28T03:00", "03-29T02:00", "03-30T02:00"]),
        # 25 October 2026: 03:00 becomes 02:00. Of the two times 02:30 it is the first.
        ("2026-10-24T02:30:00", "2026-10-27T00:00Z", ["10-24T00:30", "10-25T00:30", "10-26T01:30"]),
        ("2026-10-24T04:00:00", "2026-10-27T00:00Z", ["10-24T02:00", "10-25T03:00", "10-26T03:00"]),
    ],
)
def test_windows_keep_to_the_local_clock_when_it_changes(
    tmp_path: Path, begin: str, until: str, found: list[str]
) -> None:
    assert begins(tmp_path, until, begin=begin, timezone="Europe/Berlin", rrule="FREQ=DAILY") == found


@pytest.mark.parametrize("begin", ["2026-03-28T23:30:00", "2026-10-24T23:30:00"])
def test_a_window_lasts_as_long_as_it_says_when_the_clock_changes_within_it(tmp_path: Path, begin: str) -> None:
    one = window(tmp_path, begin=begin, timezone="Europe/Berlin", lasts="6h")

    first = one.begins.latest(1 << 61)
    assert first is not None
    assert one.until_ns(first) == first + 6 * 3_600_000_000_000


@pytest.mark.parametrize(
    ("rrule", "found"),
    [
        ("FREQ=WEEKLY;BYDAY=SA", ["01-03T02:00", "01-10T02:00", "01-17T02:00"]),
        ("RRULE:FREQ=WEEKLY;BYDAY=SA,WE", ["01-03T02:00", "01-07T02:00", "01-10T02:00", "01-14T02:00", "01-17T02:00"]),
        ("FREQ=DAILY;COUNT=2", ["01-03T02:00", "01-04T02:00"]),
        ("FREQ=DAILY;UNTIL=20260104", ["01-03T02:00", "01-04T02:00"]),
        ("FREQ=DAILY;UNTIL=20260104T010000Z", ["01-03T02:00"]),
        ("FREQ=MONTHLY;BYDAY=1SU", ["01-04T02:00"]),
        ("freq=daily;interval=7", ["01-03T02:00", "01-10T02:00", "01-17T02:00"]),
        ("FREQ=WEEKLY;BYDAY=SA;BYHOUR=2,5;COUNT=3", ["01-03T02:00", "01-03T05:00", "01-10T02:00"]),
    ],
)  # fmt: skip
def test_windows_recur(tmp_path: Path, rrule: str, found: list[str]) -> None:
    assert begins(tmp_path, "2026-01-17T12:00Z", begin="2026-01-03T02:00:00Z", rrule=rrule) == found


@pytest.mark.parametrize(
    ("rrule", "words"),
    [
        ("FREQ=SECONDLY", "wanted FREQ of YEARLY, MONTHLY, WEEKLY, DAILY"),
        ("FREQ=HOURLY;COUNT=3", "wanted FREQ of"),
        ("BYDAY=SA", "got none"),
        ("nonsense", "wanted an RRULE such as FREQ=WEEKLY;BYDAY=SA; got 'nonsense'"),
        ("FREQ=DAILY\nEXDATE:20260101", "wanted an RRULE such as"),
        ("FREQ=DAILY;FREQ=WEEKLY", "wanted an RRULE such as"),
        ("FREQ=DAILY;BYHOURS=3", "got 'BYHOURS'; did you mean 'BYHOUR'?"),
        ("FREQ=DAILY;BYSECOND=3", "wanted parts among"),
        ("FREQ=DAILY;INTERVAL=0", "wanted INTERVAL from 1 to 1000; got 0"),
        ("FREQ=DAILY;INTERVAL=99999999999999", "wanted INTERVAL from 1 to 1000"),
        ("FREQ=DAILY;COUNT=-1", "wanted COUNT from 1 to 100000"),
        ("FREQ=WEEKLY;BYDAY=XX", "invalid 'BYDAY'"),
        ("FREQ=YEARLY;BYDAY=99MO", "wanted BYDAY with numbers from 1 to 53, such as 1MO or -1SU; got 99MO"),
        ("FREQ=MONTHLY;BYDAY=1MO,8MO", "wanted BYDAY with numbers from 1 to 5, such as 1MO or -1SU; got 8MO"),
        ("FREQ=YEARLY;BYMONTH=2,12;BYDAY=1MO,-9MO", "from 1 to 5, such as 1MO or -1SU; got -9MO"),
        ("FREQ=DAILY;BYHOUR=99", "hour must be in 0..23"),
        ("FREQ=DAILY;UNTIL=soon", "wanted UNTIL such as 20261231"),
        ("FREQ=DAILY;UNTIL=20250101", "has no occurrence"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "has no occurrence"),
        ("FREQ=DAILY;BYHOUR=0,1,2,3,4;BYMINUTE=0,10,20,30,40", "wanted at most 24 begins a day; got 25"),
        ("FREQ=DAILY;BYMONTH=" + ",".join(["1"] * 200), "wanted at most 256 characters"),
    ],
)
def test_a_recurrence_that_is_wrong_or_would_not_end_is_refused(tmp_path: Path, rrule: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        window(tmp_path, begin="2026-01-03T02:00:00Z", rrule=rrule)

    assert words in str(refused.value)
    assert str(refused.value).startswith("notifications.maintenance[0]")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rules": [{"streams": ["b"], "mute": True}]}, "notifications.rules[0][name]: wanted a value; got nothing"),
        ({"rules": [{"name": "a"}]}, "rule 'a' changes nothing"),
        ({"rules": ["a"]}, "notifications.rules[0]: wanted settings below it, such as `name: ...`; got text"),
        ({"rules": "a"}, "notifications.rules: wanted a list; got 'a'"),
        ({"rules": [{"name": "a", "streams": [], "mute": True}]}, "wanted a pattern at least"),
        ({"rules": [{"name": "a", "stream": "b"}]}, "did you mean notifications.rules.streams?"),
        ({"rules": [{"name": "a", "kinds": "silense", "mute": True}]}, "got 'silense'; did you mean 'silence'?"),
        ({"rules": [{"name": "a", "least_deviation": -1}]}, "wanted at least 0; got -1"),
        ({"rules": [{"name": "a", "direction": "up"}]}, "wanted 'above', 'below' or 'both'; got 'up'"),
        ({"rules": [{"name": "a", "severity": {"warning": 5, "critical": 2}}]}, "warning must be at most critical 2"),
        ({"rules": [{"name": "a", "mute": True}] * 2}, "'a' stands there twice"),
        ({"rules": [{"name": "a\nb", "mute": True}]}, "notifications.rules[0][name]: wanted a name in one line"),
        ({"maintenance": [{"name": "a", "begin": "soon", "lasts": "1h"}]}, "wanted a time such as 2026-01-03T02:00"),
        ({"maintenance": [{"name": "a", "begin": "2026-01-03", "lasts": "0s"}]}, "wanted a duration from 1s to 366d"),
        (
            {"maintenance": [{"name": "a", "begin": "2026-01-03", "lasts": "1h", "timezone": "../etc/passwd"}]},
            "wanted a time zone such as Europe/Berlin",
        ),
        ({"incidents_per_stream": {"at_most": 0, "within": "1d"}}, "wanted at least 1; got 0"),
        ({"incidents_per_stream": {"at_most": 1, "within": "0s"}}, "wanted a duration such as 1d"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_key(tmp_path: Path, section: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, section)

    assert words in str(refused.value)
