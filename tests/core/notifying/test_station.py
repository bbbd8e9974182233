"""Who is told of what, drawn as timelines: a character is a minute.

scores       . calm   # anomalous, score 2   H score 4   ^ score 9   - no reading
maintenance  = inside a window   + inside another
told         O U R  open, update, resolve that people are told of; o u r  the same, muted
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from streamer.core import alerts
from streamer.core.alerts import Attribution
from streamer.core.events import PARTITION, SILENCE, Detail, Event
from streamer.core.incidents import Incidents
from streamer.core.incidents import Rule as IncidentRule
from streamer.core.keyed_state import NO_STREAM, ExportedState, KeyedState
from streamer.core.notifying import (
    Begins,
    Levels,
    Maintenance,
    Match,
    Notifying,
    NotifyingOptions,
    RateLimit,
    Rule,
)
from streamer.core.readings import Readings

MINUTE = 60_000_000_000
START = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
SCORES = {".": 0.1, "#": 2.0, "H": 4.0, "^": 9.0}
LETTERS = {"open": "o", "update": "u", "resolve": "r"}
INCIDENTS = IncidentRule(open_after=1, open_within=1, resolve_after=2)


class World:
    """One stream's scores become alerts whose decisions are drawn."""

    def __init__(self, options: NotifyingOptions, *, observed: float = 30.0, expected: float = 20.0) -> None:
        self.keys = KeyedState(["press-1"])
        self.incidents, self.options = Incidents(self.keys, INCIDENTS), options
        self.notifying = Notifying(self.keys, options)
        self.keys.assign(np.array([0]), 0)
        self.attributions = [Attribution("heat", 1.0, observed, expected)]
        self.told: list[alerts.Alert] = []

    def run(self, scores: str, *, first: int = 0) -> None:
        minutes = np.array([minute for minute, one in enumerate(scores, first) if one != "-"], np.int64)
        at = START + minutes * MINUTE
        values = np.array([SCORES[one] for one in scores if one != "-"], np.float32)
        zeros = np.zeros(len(at), np.int64)
        readings = Readings(zeros, at, np.zeros((len(at), 1), np.float32), zeros, np.arange(len(at)))
        events = self.incidents.step(zeros, at, values)
        built = [
            alerts.build(
                event,
                topic="readings",
                stream="press-1",
                attributions=self.attributions,
                model_version="v",
                dashboard_url=None,
            )
            for event in events
        ]
        self.told += [alert for _, alert in self.notifying.step(list(zip(events, built, strict=True)), readings)]

    def restarted(self) -> World:
        """Another process that goes on from a snapshot."""
        state = self.keys.export(np.array([0]), [0])
        other = World(self.options)
        other.keys.restore(state)
        other.attributions, other.told = self.attributions, self.told
        return other

    def drawn(self, length: int) -> str:
        row = ["."] * length
        for alert in self.told:
            letter = LETTERS[alert.event]
            row[minute_of(alert)] = letter if alert.muted else letter.upper()
        return "".join(row)


def minute_of(alert: alerts.Alert) -> int:
    return int((np.datetime64(alert.time[:-1], "ns").astype(np.int64) - START) // MINUTE)


def windows(drawn: str) -> tuple[Maintenance, ...]:
    """A maintenance window for each run of `=` or `+`."""
    found, at = [], 0
    for inside, run in itertools.groupby(drawn):
        length = len(list(run))
        if inside != ".":
            found.append(Maintenance("wash", Match(), length * MINUTE, Begins([START + at * MINUTE])))
        at += length
    return tuple(found)


TIMELINES = [
    # no maintenance: as ever
    ("..##....", "........", "..O..R.."),
    # what opens in a window and ends in it is muted whole
    ("..##......", ".======...", "..o..r...."),
    # what was open before goes on being told
    ("..##^.#......", "...======....", "..O.U...R...."),
    # what outlasts the window is told by the first reading after it, once, then goes on as any other
    ("..########....", ".====.........", "..o..U.....R.."),
    ("..###H##H.^....", ".====..........", "..o..U....U.R.."),
    # an update at the end of the window is that one; nothing is told twice
    ("..###H####....", ".====.........", "..o..U.....R.."),
    # an update within it stays muted
    ("..#H######....", ".======.......", "..ou...U...R.."),
    # what ends with the first reading after the window was never told, nor is its end
    ("..##......", ".====.....", "..o..r...."),
    # the next fault is told
    ("..##....##....", ".======.......", "..o..r..O..R.."),
    # no reading when the window ends: the next one tells
    ("..##---###....", ".====.........", "..o....U...R.."),
    # one window that begins as another ends mutes on
    ("..########....", ".===+++.......", "..o....U...R.."),
    # one that begins later does not take back what was told
    ("..########....", ".==.===.......", "..oU.......R.."),
]


@pytest.mark.parametrize(("scores", "maintenance", "told"), TIMELINES, ids=[" | ".join(row) for row in TIMELINES])
@pytest.mark.parametrize("cuts", [(), (3,), (4, 5, 6, 7), tuple(range(1, 15))], ids=lambda cuts: f"cut at {cuts}")
@pytest.mark.parametrize("restarts", [False, True], ids=["", "restarted"])
def test_maintenance(scores: str, maintenance: str, told: str, cuts: Sequence[int], restarts: bool) -> None:
    world = World(NotifyingOptions(maintenance=windows(maintenance)))

    edges = [0, *(cut for cut in cuts if cut < len(scores)), len(scores)]
    for begin, end in itertools.pairwise(edges):
        world.run(scores[begin:end], first=begin)
        world = world.restarted() if restarts else world

    assert world.drawn(len(scores)) == told


RULES: list[tuple[str, str, list[dict[str, Any]]]] = [
    ("..##....", "..O..R..", []),
    ("..##....", "..o..r..", [{"mute": True}]),
    # the first rule that matches and makes a setting decides it
    ("..##....", "..O..R..", [{"mute": False}, {"mute": True}]),
    ("..##....", "..o..r..", [{"match": Match(("pump-*",)), "mute": False}, {"mute": True}]),
    ("..##....", "..o..r..", [{"match": Match(("press-?",), ("he*",), ("anomaly",)), "mute": True}]),
    ("..##....", "..O..R..", [{"match": Match(features=("current",)), "mute": True}]),
    ("..##....", "..O..R..", [{"match": Match(kinds=("silence",)), "mute": True}]),
    # muted altogether stays so, whatever comes
    ("..#^#...", "..ou..r.", [{"mute": True}]),
    # observed 30, expected 20
    ("..##....", "..O..R..", [{"direction": "above"}]),
    ("..##....", "..o..r..", [{"direction": "below"}]),
    ("..##....", "..O..R..", [{"direction": "both"}, {"direction": "below"}]),
    ("..##....", "..O..R..", [{"least_deviation": 10.0}]),
    ("..##....", "..o..r..", [{"least_deviation": 10.1}]),
    ("..##....", "..O..R..", [{"least_relative_deviation": 0.5}]),
    ("..##....", "..o..r..", [{"least_relative_deviation": 0.51}]),
    # below the least severity until an update reaches it
    ("..##....", "..o..r..", [{"least_severity": "critical"}]),
    ("..#H#^..", "..oU.U.R", [{"least_severity": "critical"}]),
    ("..#H#^..", "..ou.U.R", [{"least_severity": "critical", "severity": Levels(3.0, 8.0)}]),
]


@pytest.mark.parametrize(("scores", "told", "rules"), RULES, ids=[f"{row[0]} | {row[1]} | {row[2]}" for row in RULES])
def test_rules(scores: str, told: str, rules: list[dict[str, Any]]) -> None:
    world = World(NotifyingOptions(rules=tuple(Rule(f"rule {n}", **rule) for n, rule in enumerate(rules))))

    world.run(scores)

    assert world.drawn(len(scores)) == told


LIMITS = [
    ("#..#..#..#..", 2, 60, "O.RO.Ro.ro.r"),
    ("#..#..#..#..", 2, 7, "O.RO.Ro.rO.R"),
    ("#..#..^..#..", 1, 60, "O.Ro.ro.ro.r"),
]


@pytest.mark.parametrize(("scores", "at_most", "minutes", "told"), LIMITS)
@pytest.mark.parametrize("cuts", [(), tuple(range(1, 12))], ids=["whole", "cut"])
def test_more_incidents_of_a_stream_than_the_limit_are_muted(
    scores: str, at_most: int, minutes: int, told: str, cuts: Sequence[int]
) -> None:
    world = World(NotifyingOptions(per_stream=RateLimit(at_most, minutes * MINUTE)))

    for begin, end in itertools.pairwise([0, *cuts, len(scores)]):
        world.run(scores[begin:end], first=begin)
        world = world.restarted()

    assert world.drawn(len(scores)) == told


def test_muted_incidents_do_not_count_towards_the_limit_but_those_told_late_do() -> None:
    limit = RateLimit(1, 60 * MINUTE)
    world = World(NotifyingOptions(maintenance=windows(".====........."), per_stream=limit))

    world.run("..########...#")

    assert world.drawn(14) == "..o..U.....R.o"


def test_an_alert_says_what_muted_it_and_the_one_that_is_told_late_what_did_until_then() -> None:
    world = World(NotifyingOptions(maintenance=windows(".====.........")))

    world.run("..########....")

    opened, late, _ = world.told
    assert opened.muted == "maintenance wash until 2024-01-01T00:05Z"
    assert "Not told" not in opened.summary
    assert late.muted is None
    assert late.summary == f"{opened.summary} Not told before: maintenance wash until 2024-01-01T00:05Z."
    assert (late.incident_id, late.event, late.time) == (opened.incident_id, "update", "2024-01-01T00:05:00.000Z")
    assert late.alert_id not in (opened.alert_id, "")


def test_a_rule_changes_the_severity_of_every_alert_of_an_incident() -> None:
    world = World(NotifyingOptions(rules=(Rule("calm", severity=Levels(3.0, 8.0)),)))

    world.run("..#H#^...")

    assert [alert.severity for alert in world.told] == ["info", "warning", "critical", "critical"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"mute": True}, "rule calm"),
        ({"direction": "below"}, "rule calm: heat is not below what was expected (observed 30, expected 20)"),
        ({"least_deviation": 12.0}, "rule calm: heat deviates by 10, less than 12"),
        ({"least_relative_deviation": 0.6}, "rule calm: heat deviates by 0.5 of 20, less than 0.6"),
        ({"least_severity": "critical"}, "rule calm: severity warning, told from critical"),
    ],
)
def test_a_muted_alert_says_in_words_which_rule_and_why(rule: dict[str, Any], words: str) -> None:
    world = World(NotifyingOptions(rules=(Rule("calm", **rule),)))

    world.run("..##")

    assert [alert.muted for alert in world.told] == [words]


def test_a_snapshot_from_before_there_were_notifications_is_taken_over() -> None:
    world = World(NotifyingOptions(rules=(Rule("calm", mute=True),)))
    state = world.keys.export(np.array([0]), [0])
    sparse = {name: values for name, values in state.values["sparse"].items() if not name.startswith("notifying")}
    parts = {name: values for name, values in state.values["partitions"].items() if name != "notifying"}

    other = World(world.options)
    other.keys.restore(ExportedState(state.columns, {**state.values, "sparse": sparse, "partitions": parts}))
    other.run("..##....")

    assert other.drawn(8) == "..o..r.."


def test_a_stream_that_is_forgotten_leaves_nothing_behind() -> None:
    world = World(NotifyingOptions(maintenance=windows("=========="), per_stream=RateLimit(1, MINUTE)))
    world.run("..##")
    assert world.notifying.open_muted() == {"anomaly": 1}

    world.keys.forget(np.array([0]))

    assert world.notifying.open_muted() == {}
    assert not world.notifying.is_muted(0, "anomaly")


def storm(event: str, minute: int, row: int) -> tuple[Event, alerts.Alert]:
    """Many streams of partition 3 fall silent together at minute 2, or come back."""
    details: dict[str, Detail] = {"partition": 3, "streams": 12, "active": 12, "names": "press-1", "missing": 0}
    at = START + minute * MINUTE
    told = Event(event, SILENCE, NO_STREAM, START + 2 * MINUTE, at, 0.0, 0.0, row, scope=PARTITION, details=details)
    built = alerts.build(
        told, topic="readings", stream="readings[3]", attributions=[], model_version="v", dashboard_url=None
    )
    return told, built


def heartbeat(*minutes: int) -> Readings:
    """Readings of one stream that still sends."""
    zeros = np.zeros(len(minutes), np.int64)
    at = START + np.array(minutes) * MINUTE
    return Readings(zeros, at, np.zeros((len(at), 1), np.float32), zeros + 3, np.arange(len(at)))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_silence_of_many_outlasts_the_window_and_is_told_by_the_first_reading_of_its_partition(
    restarted: bool,
) -> None:
    world = World(NotifyingOptions(maintenance=windows(".========.......")))
    world.keys.assign(np.array([0]), 3)

    (_, opened), *_ = world.notifying.step([storm("open", 5, 0)], heartbeat(5, 6, 7))
    assert world.notifying.partitions_muted == [3]
    if restarted:
        state = world.keys.export(np.array([0]), [3])
        world = World(world.options)
        world.keys.restore(state)
    assert world.notifying.step([], heartbeat(8)) == []
    (event, late), *more = world.notifying.step([storm("resolve", 12, 2)], heartbeat(10, 11, 12))

    assert opened.muted == "maintenance wash until 2024-01-01T00:09Z"
    assert (event.row, event.told_late, late.event, late.muted) == (0, True, "update", None)
    assert [(alert.event, alert.muted) for _, alert in more] == [("resolve", None)]
    assert world.notifying.partitions_muted == []


def test_a_pattern_names_a_partition_as_alerts_do() -> None:
    world = World(NotifyingOptions(rules=(Rule("calm", Match(("readings?3?",)), mute=True),)))

    [(_, alert)] = world.notifying.step([storm("open", 5, 0)], heartbeat(5))

    assert alert.muted == "rule calm"


def test_windows_are_asked_for_once_and_in_any_order() -> None:
    drawn = iter(range(0, 10_000 * MINUTE * 1440, 1440 * MINUTE))
    begins = Begins(drawn)

    assert begins.latest(-1) is None
    assert begins.latest(5 * 1440 * MINUTE) == 5 * 1440 * MINUTE
    assert next(drawn) < 9 * 1440 * MINUTE, "the rest waits until it is asked for"
    assert begins.latest(2 * 1440 * MINUTE + 1) == 2 * 1440 * MINUTE
