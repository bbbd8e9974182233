"""When incidents open, are updated and resolve; independent of batching."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.events import Event
from streamer.core.incidents import Incidents, Rule
from streamer.core.keyed_state import KeyedState

RULE = Rule(open_after=2, open_within=3, exit_below=0.8, resolve_after=3, update_factor=1.5)
# One letter per reading: low, between exit and line, and three levels of anomalous.
SCORES = {".": 0.1, "-": 0.9, "x": 1.2, "X": 2.0, "#": 10.0, " ": np.nan}


def play(picture: str, rule: Rule = RULE, incidents: Incidents | None = None, first: int = 0) -> list[Event]:
    """Events of one stream, one reading a nanosecond."""
    n = len(picture)
    return (incidents or Incidents(KeyedState(), rule)).step(
        np.zeros(n, np.int64), np.arange(first, first + n), np.array([SCORES[c] for c in picture], np.float32)
    )


def drawn(picture: str, rule: Rule = RULE) -> str:
    """The events under the readings that led to them: o open, u update, r resolve."""
    line = [" "] * len(picture)
    for event in play(picture, rule):
        line[event.at_ns] = event.event[0]
    return "".join(line).rstrip()


@pytest.mark.parametrize(
    ("picture", "events"),
    [
        ("........", ""),
        ("..x.....", ""),  # one anomalous reading is not an incident
        ("..xx....", "   o  r"),
        ("..x.x...", "    o  r"),  # 2 of 3
        ("..x..x..", ""),  # 2 of 4 are too few
        ("..xx..x...", "   o     r"),  # a dip shorter than the quiet time merges
        ("..xx...xx...", "   o  r o  r"),
        ("..xx--------...", "   o          r"),  # hysteresis: below the line but not quiet
        ("..xx..-...", "   o     r"),  # not quiet breaks the quiet
        ("..xxX..", "   ou"),
        ("..xxX#xx#", "   ouu"),  # told again only when the peak has grown
        ("..xX#...", "   ou  r"),
        ("..xx . . .", "   o     r"),  # readings without a score are passed by
        ("  x   x ", "      o"),
        ("", ""),
    ],
)
def test_an_incident_opens_updates_and_resolves_as_drawn(picture: str, events: str) -> None:
    assert drawn(picture) == events
    alone = Incidents(KeyedState(), RULE)
    one_by_one = [event for i, c in enumerate(picture) for event in play(c, incidents=alone, first=i)]
    assert [(e.event, e.at_ns, e.onset_ns) for e in one_by_one] == [
        (e.event, e.at_ns, e.onset_ns) for e in play(picture)
    ]


def test_an_event_tells_onset_moment_score_and_peak() -> None:
    opened, resolved = play("..xX...")

    # t     0 1 2 3 4 5 6
    #           | open    resolve
    #         onset
    assert dataclasses.astuple(opened)[:8] == ("open", "anomaly", 0, 2, 3, 2.0, 2.0, 3)
    assert (resolved.onset_ns, resolved.at_ns, resolved.peak) == (2, 6, 2.0)
    assert resolved.score == pytest.approx(0.1)


def test_the_peak_of_an_incident_forgets_the_one_before() -> None:
    first, _, second, _ = [e for e in play("..##...xx...") if e.event != "update"]

    assert first.peak == 10.0
    assert second.peak == pytest.approx(1.2)


def test_the_next_incident_of_a_stream_has_another_onset() -> None:
    opened = [event.onset_ns for event in play("xx...xx...xx...") if event.event == "open"]

    assert opened == [0, 5, 10]


def test_one_anomalous_reading_can_be_enough() -> None:
    assert drawn("..x..", Rule(1, 1, 0.8, 2, 1.5)) == "  o r"


def test_a_score_at_the_line_is_anomalous_and_one_at_the_exit_is_not_quiet() -> None:
    incidents = Incidents(KeyedState(), Rule(1, 1, 0.5, 1, 1.5))

    events = incidents.step(np.zeros(3, np.int64), np.arange(3), np.array([1.0, 0.5, 0.49], np.float32))

    assert [(event.event, event.at_ns) for event in events] == [("open", 0), ("resolve", 2)]


def test_an_incident_that_resolved_does_not_come_back_under_its_own_id() -> None:
    # quiet time shorter than the memory of n of m
    events = play("xx.x..", Rule(open_after=2, open_within=5, exit_below=0.8, resolve_after=1))

    opened = [event.onset_ns for event in events if event.event == "open"]
    assert len(opened) == len(set(opened))


def test_the_onset_is_among_the_scores_that_opened_the_incident() -> None:
    (opened,) = play("x." * 50 + "xxx", Rule(open_after=3, open_within=3))

    # x.x.x.x. ... x.xxx    one anomalous reading in two is not an incident; three in a row are
    #                ^ onset
    assert opened.onset_ns == 100


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(list(".-xX# "))), max_size=80),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 6),
    st.lists(st.integers(1, 79), max_size=6),
)
def test_any_split_into_batches_gives_the_same_events(
    arrivals: list[tuple[int, str]], n: int, extra: int, resolve_after: int, cuts: list[int]
) -> None:
    rule = Rule(n, n + extra, 0.8, resolve_after, 1.5)
    codes = np.array([code for code, _ in arrivals], np.int64)
    scores = np.array([SCORES[c] for _, c in arrivals], np.float32)
    whole, parted = Incidents(KeyedState(), rule), Incidents(KeyedState(), rule)

    together = whole.step(codes, np.arange(len(codes)), scores)

    edges = sorted({0, len(codes), *(cut for cut in cuts if cut < len(codes))})
    apart = [
        dataclasses.replace(event, row=event.row + a)
        for a, b in itertools.pairwise(edges)
        for event in parted.step(codes[a:b], np.arange(a, b), scores[a:b])
    ]
    assert together == apart
    assert whole.open_count == parted.open_count


@given(st.text(".-xX# ", max_size=60), st.integers(0, 60))
def test_a_restored_stream_goes_on_as_the_exported_one(picture: str, at: int) -> None:
    here, there = KeyedState(["a"]), KeyedState()
    one, other = Incidents(here, RULE), Incidents(there, RULE)
    play(picture[:at], incidents=one)

    there.restore(here.export(np.array([0])))

    assert play(picture[at:], incidents=other) == play(picture[at:], incidents=one)


@given(st.text(".-xX# ", max_size=80))
def test_events_of_a_stream_alternate_and_name_their_incident(picture: str) -> None:
    onset: int | None = None
    for event in play(picture):
        if event.event == "open":
            assert onset is None
            onset = event.onset_ns
        assert event.onset_ns == onset
        assert event.onset_ns <= event.at_ns
        if event.event == "resolve":
            onset = None


@pytest.mark.parametrize(
    ("stride", "picture", "events"),
    [
        # A score counts for `stride` readings: 3 of 5 readings are 3 of 5 scores, 1 of 2, 1 of 1.
        (1, "..xxx.........", "    o    r"),
        (4, "..x...........", "  o r"),
        (16, "..x...........", "  or"),
    ],
)
def test_n_of_m_is_counted_in_readings_whatever_the_stride(stride: int, picture: str, events: str) -> None:
    rule = Rule(open_after=3, open_within=5, resolve_after=5)
    incidents = Incidents(KeyedState(), rule, stride)

    line = [" "] * len(picture)
    for event in play(picture, incidents=incidents):
        line[event.at_ns] = event.event[0]

    assert "".join(line).rstrip() == events


@pytest.mark.parametrize(("before", "after"), [((3, 5), (2, 3)), ((2, 3), (3, 5)), ((1, 1), (4, 8))])
def test_n_of_m_can_change_while_an_incident_is_open(before: tuple[int, int], after: tuple[int, int]) -> None:
    here, there = KeyedState(["a"]), KeyedState()
    one, other = Incidents(here, Rule(*before)), Incidents(there, Rule(*after))
    (opened,) = play("..xxx", incidents=one)

    there.restore(here.export(np.array([0])))

    (resolved,) = play("." * 32, incidents=other, first=5)
    assert (resolved.event, resolved.onset_ns) == ("resolve", opened.onset_ns)
