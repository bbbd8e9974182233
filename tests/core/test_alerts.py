"""The text of an alert, word for word."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core import alerts
from streamer.core.alerts import SCHEMA, Alert, Attribution, Rarity, Span
from streamer.core.alerts.words import say_often
from streamer.core.events import ANOMALY, OPEN, PARTITION, RESOLVE, SILENCE, UPDATE, Event

MINUTE = 60_000_000_000
ONSET = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
ATTRIBUTIONS = [Attribution("heat", 0.75, 31.5, 20.0), Attribution("current", 0.25, 4.0, 5.0)]


def build(event: str = OPEN, kind: str = ANOMALY, *, url: str | None = None, peak: float = 2.0) -> Alert:
    return alerts.build(
        Event(event, kind, 0, ONSET, ONSET + 12 * MINUTE, 1.7, peak, 0),
        topic="readings",
        stream="pump-1",
        attributions=ATTRIBUTIONS if kind == ANOMALY else [],
        model_version="v",
        dashboard_url=url,
    )


@pytest.mark.parametrize(
    ("event", "kind", "sentence"),
    [
        (
            OPEN,
            ANOMALY,
            "pump-1 has been anomalous since 2024-01-01 00:00:00 UTC: peak score 2.0 (alert line 1.0); "
            "main feature heat (75%), observed 31.5, expected 20.",
        ),
        (
            UPDATE,
            ANOMALY,
            "pump-1 is worsening; anomalous since 2024-01-01 00:00:00 UTC: peak score 2.0 (alert line 1.0); "
            "main feature heat (75%), observed 31.5, expected 20.",
        ),
        (RESOLVE, ANOMALY, "pump-1 is back to normal after 12 min; peak score 2.0 (alert line 1.0)."),
        (OPEN, SILENCE, "pump-1 has been silent since 2024-01-01 00:00:00 UTC while other streams keep sending."),
        (RESOLVE, SILENCE, "pump-1 is sending again after 12 min of silence."),
    ],
)
def test_an_alert_is_summarised_in_one_sentence(event: str, kind: str, sentence: str) -> None:
    assert build(event, kind).summary == sentence


DAY_S = 86_400.0
SPIKE = Span("2024-01-01T00:00:00.000Z", "2024-01-01T00:03:00.000Z", 240.0)


@pytest.mark.parametrize(
    ("event", "rarity", "sentence"),
    [
        (
            OPEN,
            Rarity(40 * DAY_S, False),
            "pump-1 has been anomalous since 2024-01-01 00:00:00 UTC: peak score 2.0 (alert line 1.0), about once in "
            "40 days; main feature heat (75%), observed 31.5, expected 20 (15.5 to 25); "
            "the stream was not in the training data.",
        ),
        (
            RESOLVE,
            Rarity(3 * 365.25 * DAY_S, True),
            "pump-1 is back to normal after 12 min; the anomalous readings themselves span 4 min; "
            "peak score 2.0 (alert line 1.0), rarer than once in 3 years.",
        ),
    ],
)
def test_the_sentence_says_how_rare_it_is_how_long_it_really_was_and_what_was_expected(
    event: str, rarity: Rarity, sentence: str
) -> None:
    alert = alerts.build(
        Event(event, ANOMALY, 0, ONSET, ONSET + 12 * MINUTE, 1.7, 2.0, 0),
        topic="readings",
        stream="pump-1",
        attributions=[Attribution("heat", 0.75, 31.5, 20.0, 15.5, 25.0), ATTRIBUTIONS[1]],
        model_version="v",
        dashboard_url=None,
        span=SPIKE,
        rarity=rarity,
        in_training=False,
    )

    assert alert.summary == sentence
    assert (alert.span, alert.rarity, alert.in_training, alert.schema) == (SPIKE, rarity, False, SCHEMA)
    assert Alert.decode(alert.encode()) == alert


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (1 / 1440, "a minute"), (0.05, "72 minutes"), (0.5, "12 hours"), (7, "7 days"), (91, "3 months"),
        (730, "2 years"), (365.25e5, "100,000 years"),
    ],
)  # fmt: skip
def test_how_often_something_comes_is_said_in_a_unit_one_can_imagine(days: float, said: str) -> None:
    assert say_often(days * DAY_S, at_least=False) == f"about once in {said}"


def test_a_return_with_late_readings_tells_no_length_of_the_silence() -> None:
    times = [ONSET - 47 * 60 * MINUTE, ONSET + MINUTE]
    events = [Event(RESOLVE, SILENCE, 0, ONSET, at, 0.0, 0.0, 0, details={"late_s": 7200.0}) for at in times]
    old = Event(RESOLVE, SILENCE, 0, ONSET, ONSET, 0.0, 0.0, 0)
    told = {"partition": 0, "streams": 20, "missing": 5, "late_s": 7200.0}
    many = Event(RESOLVE, SILENCE, -1, ONSET, ONSET + MINUTE, 0.0, 0.0, 0, scope=PARTITION, details=told)

    said = [
        alerts.build(event, topic="t", stream=stream, attributions=[], model_version="v", dashboard_url=None).summary
        for event, stream in [*((event, "pump-1") for event in (*events, old)), (many, "t[0]")]
    ]

    assert said == [
        "pump-1 is sending again, with late readings from 2023-12-30 01:00:00 UTC on.",
        "pump-1 is sending again, with late readings from 2024-01-01 00:01:00 UTC on.",
        "pump-1 is sending again, with late readings from 2024-01-01 00:00:00 UTC on.",
        "Most of the 20 streams of t[0] that had fallen silent are sending again, with late readings; 5 are not.",
    ]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            SILENCE,
            "pump-1 has sent nothing since 2024-01-01 00:00:00 UTC and is no longer monitored; incident closed.",
        ),
        (
            ANOMALY,
            "pump-1 has stopped sending and is no longer monitored; incident closed, "
            "anomalous since 2024-01-01 00:00:00 UTC, peak score 2.0 (alert line 1.0).",
        ),
    ],
)
def test_an_incident_of_a_stream_past_its_time_to_live_is_not_called_back_to_normal(kind: str, sentence: str) -> None:
    event = Event(RESOLVE, kind, 0, ONSET, ONSET + 7 * 24 * 60 * MINUTE, 0.0, 2.0, 0, "expired")

    alert = alerts.build(
        event, topic="readings", stream="pump-1", attributions=[], model_version="v", dashboard_url=None
    )

    assert (alert.event, alert.summary) == ("resolve", sentence)


def test_a_peak_above_a_thousand_is_not_printed_to_the_digit() -> None:
    assert "peak score 999.9 (alert line 1.0)" in build(peak=999.9).summary
    assert "peak score above 1,000 (alert line 1.0)" in build(peak=2.4e8).summary
    assert build(peak=2.4e8).peak_score == 2.4e8


def test_an_alert_has_all_that_the_operator_needs() -> None:
    message = json.loads(build().encode())

    assert message["stream"] == "pump-1"
    assert (message["event"], message["kind"], message["severity"]) == ("open", "anomaly", "warning")
    assert (message["onset"], message["time"]) == ("2024-01-01T00:00:00.000Z", "2024-01-01T00:12:00.000Z")
    assert (message["score"], message["peak_score"], message["model_version"]) == (1.7, 2.0, "v")
    heat = {"name": "heat", "share": 0.75, "observed": 31.5, "expected": 20.0, "lower": None, "upper": None}
    assert message["features"][0] == heat
    assert message["dashboard"] is None


def test_messages_of_one_incident_share_its_id_and_have_their_own() -> None:
    opened, updated, resolved = build(OPEN), build(UPDATE), build(RESOLVE)

    assert opened.incident_id == updated.incident_id == resolved.incident_id
    assert len({opened.alert_id, updated.alert_id, resolved.alert_id}) == 3
    assert build(OPEN) == opened


def test_silence_is_a_warning() -> None:
    assert build(OPEN, SILENCE, peak=0.0).severity == "warning"


@pytest.mark.parametrize("url", ["http://127.0.0.1:3000/d/stream", "http://127.0.0.1:3000/d/stream?orgId=1"])
def test_the_dashboard_link_names_the_stream_and_a_range_around_the_incident(url: str) -> None:
    link = build(url=url).dashboard

    assert link is not None
    query = parse_qs(urlsplit(link).query)
    assert query["var-stream"] == ["pump-1"]
    assert int(query["from"][0]) < ONSET // 1_000_000 < (ONSET + 12 * MINUTE) // 1_000_000 < int(query["to"][0])
    assert ("orgId" in query) == ("?" in url)


def test_a_feature_shows_the_reading_at_which_it_deviates_most() -> None:
    observed = np.array([[1, 5], [9, 5], [2, 5.5]], np.float32)
    expected = np.array([[1, 5], [2, 5], [2, 5]], np.float32)

    found = alerts.attribute(("a", "b"), observed, expected, np.array([0.2, 0.8], np.float32))

    assert [(p.name, p.observed, p.expected) for p in found] == [("b", 5.5, 5), ("a", 9, 2)]
    assert sum(p.share for p in found) == pytest.approx(1, abs=1e-5)


def test_a_feature_never_shows_a_value_that_was_missing() -> None:
    nan = np.nan
    observed = np.array([[1, nan, 5], [nan, nan, 5], [2, nan, nan]], np.float32)
    expected = np.array([[1, 1, 5], [9, 1, 4], [2.5, 1, 99]], np.float32)

    found = alerts.attribute(("a", "b", "c"), observed, expected, np.array([0.6, 0, 0.4], np.float32))

    assert [(p.name, p.observed, p.expected) for p in found] == [("a", 2, 2.5), ("c", 5, 4)]


def test_a_feature_shows_its_expected_band_at_that_reading_unless_it_has_no_end() -> None:
    observed = np.array([[1, 5], [9, 9]], np.float32)
    expected, lower = np.array([[1, 5], [2, 5]], np.float32), np.array([[0, 0], [1, 4]], np.float32)
    upper = np.array([[2, 6], [3, np.inf]], np.float32)

    found = alerts.attribute(("a", "b"), observed, expected, np.array([0.8, 0.2], np.float32), lower, upper)

    assert [(one.lower, one.upper) for one in found] == [(1, 3), (4, None)]


@pytest.mark.parametrize(("filled", "said"), [(0.0, ""), (0.001, "1%"), (0.1234, "12%"), (0.5, "50%")])
def test_the_summary_says_how_much_was_filled(filled: float, said: str) -> None:
    alert = alerts.build(
        Event(OPEN, ANOMALY, 0, ONSET, ONSET, 1.7, 2.0, 0),
        topic="readings", stream="s", attributions=ATTRIBUTIONS, model_version="v", dashboard_url=None, filled=filled,
    )  # fmt: skip

    assert alert.filled == filled
    assert alert.summary.endswith(
        f"expected 20 ({said} of the window's values were missing and filled in)." if said else "20."
    )


@given(st.integers(0, 7_258_118_400_000_000_000 - 1))
def test_times_are_iso_to_the_millisecond(time_ns: int) -> None:
    wanted = np.datetime_as_string(np.datetime64(time_ns, "ns").astype("datetime64[ms]"))

    assert alerts.iso(time_ns) == f"{wanted}Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h")],
)
def test_a_length_of_time_is_human_readable(seconds: int, text: str) -> None:
    assert alerts.duration(seconds * 10**9) == text


def test_an_alert_of_an_earlier_or_later_version_is_read_as_far_as_it_goes() -> None:
    alert = build(url="https://grafana.example/d/stream")
    document = json.loads(alert.encode())
    assert Alert.decode(json.dumps(document | {"a_later_field": [1]}).encode()) == alert
    del document["cold_start"], document["scope"]
    assert Alert.decode(json.dumps(document).encode()) == alert
    for name in ("schema", "span", "rarity", "in_training"):
        del document[name]
    assert Alert.decode(json.dumps(document).encode()) == msgspec.structs.replace(alert, schema=1)
    with pytest.raises(msgspec.ValidationError, match="alert_id"):
        Alert.decode(b'{"event": "open"}')
