"""An incident is what its alerts and the actions about it come to, in whatever order and however often they come."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.alerts import Alert
from streamer.core.events import OPEN, RESOLVE, UPDATE
from streamer.core.incident_life import (
    ACKNOWLEDGE,
    COMMENT,
    EXPECTED,
    FALSE_ALARM,
    UNACKNOWLEDGE,
    UNDO,
    Action,
    Incident,
    NotUnderstood,
    as_json,
    read_alert,
    standing,
    undoable,
    with_alert,
)
from tests.alert_logs import a_life, an_action, an_alert

INCIDENT = an_alert().incident_id


def told(alerts: Sequence[Alert]) -> Incident:
    incident = None
    for alert in alerts:
        incident = with_alert(incident, alert, seen_ms=1, size=10)
    assert incident is not None
    return incident


def test_an_incident_has_its_beginning_its_peak_and_its_end() -> None:
    opened, updated, resolved = a_life()

    assert told([opened]).open
    assert (told([opened, updated]).severity, told([opened]).severity) == ("critical", "info")
    known = as_json(told([opened, updated, resolved]))

    assert known["state"] == "resolved"
    assert (known["onset"], known["opened"], known["resolved"]) == (opened.onset, opened.time, resolved.time)
    assert (known["reason"], known["peak_severity"], known["peak_score"]) == ("quiet", "critical", 4.0)
    assert known["summary"] == resolved.summary
    assert [feature["name"] for feature in known["features"]] == ["heat", "current"]


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_alerts_does_not_matter(order: random.Random) -> None:
    alerts = [*a_life(), an_alert(UPDATE, 20, peak_score=3.0), an_alert(UPDATE, 5, peak_score=4.0, alert_id="f" * 32)]
    mixed = order.sample(alerts, len(alerts))

    assert told(mixed) == told(alerts)


def test_what_was_done_is_shown_until_it_is_taken_back() -> None:
    done = [
        an_action(INCIDENT, ACKNOWLEDGE, 1),
        an_action(INCIDENT, FALSE_ALARM, 2, who="bob", text="a test of the valve"),
        an_action(INCIDENT, COMMENT, 3, text="valve 3"),
        an_action(INCIDENT, EXPECTED, 4, who="carl"),
        an_action(INCIDENT, UNDO, 5, undoes=4),
    ]
    incident = told(a_life())

    seen = [standing(incident, done[:n]) for n in range(len(done) + 1)]

    assert [each.acknowledged_by for each in seen] == [None, *["anna"] * 5]
    assert [each.verdict for each in seen] == [None, None, FALSE_ALARM, FALSE_ALARM, EXPECTED, FALSE_ALARM]
    assert (seen[-1].verdict_by, seen[-1].comments) == ("bob", 2)
    assert standing(seen[-1], []) == incident
    assert standing(incident, [done[0], an_action(INCIDENT, UNACKNOWLEDGE, 6)]).acknowledged_by is None


def test_undo_takes_back_the_last_thing_that_was_done_and_no_comment() -> None:
    done = [an_action(INCIDENT, ACKNOWLEDGE, 1), an_action(INCIDENT, EXPECTED, 2), an_action(INCIDENT, COMMENT, 3)]

    first = undoable(done)
    second = undoable([*done, an_action(INCIDENT, UNDO, 4, undoes=2)])
    # Two people who undo at the same time have undone one thing.
    third = undoable([*done, *(an_action(INCIDENT, UNDO, n, undoes=2) for n in (4, 5))])

    assert (first, second, third) == (done[1], done[0], done[0])
    assert undoable([done[2]]) is None


def changed(**fields: object) -> bytes:
    return json.dumps(json.loads(an_alert().encode()) | fields).encode()


@pytest.mark.parametrize(
    "message",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        changed(alert_id="../../etc"),
        changed(incident_id="%"),
        changed(incident_id="A" * 32),
        changed(event="explode"),
        changed(time="yesterday"),
        changed(onset=None),
        changed(score="high"),
        changed(score=None),
        b" " * (2 * 2**20 + 1),
    ],
)
def test_what_is_no_alert_is_refused(message: bytes | None) -> None:
    with pytest.raises(NotUnderstood):
        read_alert(message)


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "delete"},
        {"action": UNDO},
        {"undoes": "1" * 32},
        {"who": ""},
        {"who": "x" * 101},
        {"text": "x" * 2001},
        {"time": "now"},
        {"incident_id": "1' OR '1'='1"},
    ],
)
def test_what_is_no_action_is_refused(fields: dict[str, object]) -> None:
    action = json.loads(an_action(INCIDENT, ACKNOWLEDGE, 1).encode())
    assert Action.decode(json.dumps(action).encode()).who == "anna"

    with pytest.raises(NotUnderstood):
        Action.decode(json.dumps(action | fields).encode())


def test_an_incident_is_muted_as_long_as_its_newest_alert_is() -> None:
    opened = an_alert(OPEN, 3, muted="maintenance: weekly wash")

    assert told([opened]).muted == "maintenance: weekly wash"
    assert told([opened, an_alert(UPDATE, 20)]).muted is None


def test_an_alert_of_an_earlier_version_is_understood() -> None:
    old = json.loads(an_alert(OPEN, 3).encode())
    for name in ("filled", "scope", "reason", "details", "cold_start"):
        del old[name]

    assert told([read_alert(json.dumps(old).encode())]).scope == "stream"


def test_names_may_be_anything_and_are_kept_but_for_the_one_character_no_database_keeps() -> None:
    name = "'; DROP TABLE incidents; --\x1b[2J\u202e\0"

    assert told([an_alert(RESOLVE, stream=name)]).stream == name.replace("\0", "\ufffd")
