"""Which alerts a sink is told."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.core.routing import FILTERED, MUTED, SEND, Route
from tests.sample_alerts import sample_alert


@pytest.mark.parametrize(
    ("route", "changes", "decision"),
    [
        (Route(), {}, SEND),
        (Route(streams=("machine-*",)), {}, SEND),
        (Route(streams=("pump-*", "*-3")), {}, SEND),
        (Route(streams=("pump-*",)), {}, FILTERED),
        (Route(streams=("MACHINE-*",)), {}, FILTERED),
        (Route(kinds=("silence", "anomaly")), {}, SEND),
        (Route(kinds=("silence",)), {}, FILTERED),
        (Route(severity="warning"), {"severity": "info"}, FILTERED),
        (Route(severity="warning"), {"severity": "warning"}, SEND),
        (Route(severity="warning"), {"severity": "critical"}, SEND),
        (Route(severity="critical"), {"severity": "of a later version"}, SEND),
        (Route(scopes=("topic",)), {}, FILTERED),
        (Route(scopes=("topic",)), {"scope": "topic"}, SEND),
        (Route(events=("open",)), {}, SEND),
        (Route(events=("resolve",)), {}, FILTERED),
        (Route(streams=("machine-*",), severity="critical"), {}, FILTERED),
    ],
)
def test_all_conditions_must_hold(route: Route, changes: dict[str, Any], decision: str) -> None:
    assert route.decide(sample_alert(**changes), told=False) == decision


def test_a_muted_alert_is_not_sent_but_the_end_of_what_was_told_is() -> None:
    opened, resolved = sample_alert(muted="weekend"), sample_alert("resolve", muted="weekend")

    assert Route().decide(opened, told=False) == MUTED
    assert Route().decide(opened, told=True) == MUTED
    assert Route().decide(resolved, told=False) == MUTED
    assert Route().decide(resolved, told=True) == SEND


def test_who_was_told_of_an_incident_is_told_of_its_end_whatever_its_severity_then() -> None:
    route = Route(severity="critical")

    assert route.decide(sample_alert("resolve", severity="info"), told=True) == SEND
    assert route.decide(sample_alert("resolve", severity="info"), told=False) == FILTERED


def test_who_wants_beginnings_alone_is_told_of_no_end() -> None:
    assert Route(events=("open",)).decide(sample_alert("resolve"), told=True) == FILTERED
