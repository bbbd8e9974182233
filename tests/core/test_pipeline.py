"""The whole pipeline: the same scores and alerts however the readings come, and after a restart."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import ModelError
from models.fitting.fit import fit
from models.fitting.training import TrainingOptions
from models.network.architecture import Architecture
from models.scaling import RobustScaler
from streamer.core.detectors import canary, fitted
from streamer.core.keyed_state import ExportedState
from streamer.core.options import PipelineOptions
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from streamer.errors import ConfigError, StateError
from tests import tiny
from tests.tiny import LENGTH, MINUTE_NS, VERSION

SETTINGS = tiny.settings(
    alerting={"open_after": 2, "open_within": 3, "resolve_after": 4, "silent_after": 8.0}, window={"max_gap_s": 1800}
)
STREAMS = ("a", "b", "stranger")


def troubled() -> Readings:
    """Two hours of three streams: a fault in `a`, a silence of `b`, a few readings twice and late."""
    series = {code: tiny.wave(120, seed=20 + code, level=10.0 * code) for code in range(3)}
    series[0][60:70, 1] += 8
    whole = tiny.fleet(series)
    minute = (whole.time_ns - tiny.START_NS) // MINUTE_NS
    kept = whole.take(np.flatnonzero(~((whole.stream == 1) & (minute >= 80) & (minute < 100))))
    order = np.arange(len(kept))
    order = np.insert(order, [50, 200, 201], [49, 30, 199])  # a duplicate, a late one, a duplicate
    again = kept.take(order)
    return Readings(again.stream, again.time_ns, again.values, again.partition, np.arange(len(again)))


WHOLE = troubled()


def pipeline(detector: Detector, names: Iterable[str] = STREAMS) -> Pipeline:
    made = Pipeline(SETTINGS.pipeline_options(), detector, VERSION)
    for name in names:
        made.keys.add(name)
    return made


def told(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str, str]]:
    return [(a.alert_id, a.stream, a.event, a.kind) for outcome in outcomes for a in outcome.alerts]


def scores(outcomes: Iterable[Outcome]) -> NDArray[np.float32]:
    return np.concatenate([outcome.scores.score for outcome in outcomes])


def test_the_fault_and_the_silence_open_and_resolve(tiny_detector: Detector) -> None:
    outcome = pipeline(tiny_detector).process(WHOLE)

    anomaly = [event for _, stream, event, kind in told([outcome]) if (stream, kind) == ("a", "anomaly")]
    silence = [event for _, stream, event, kind in told([outcome]) if (stream, kind) == ("b", "silence")]
    assert (anomaly[0], anomaly[-1]) == ("open", "resolve")
    assert silence == ["open", "resolve"]


def test_every_reading_is_admitted_duplicate_or_late(tiny_detector: Detector) -> None:
    outcome = pipeline(tiny_detector).process(WHOLE)

    assert len(outcome.readings) + outcome.duplicates + outcome.late == len(WHOLE)
    assert (outcome.duplicates, outcome.late) == (2, 1)
    assert len(outcome.scores.score) == len(outcome.readings)


@settings(max_examples=15)
@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=12))
def test_any_split_into_batches_gives_the_same_scores_and_alerts(tiny_detector: Detector, cuts: list[int]) -> None:
    whole, parted = pipeline(tiny_detector), pipeline(tiny_detector)

    together = whole.process(WHOLE)
    apart = [parted.process(part) for part in tiny.split(WHOLE, cuts)]

    assert scores(apart) == pytest.approx(together.scores.score, rel=1e-5, abs=1e-6, nan_ok=True)
    assert sorted(told(apart)) == sorted(told([together]))
    assert sum(o.duplicates for o in apart) == together.duplicates
    assert sum(o.late for o in apart) == together.late
    assert sum(o.resets for o in apart) == together.resets
    assert parted.counts() == whole.counts()
    assert sorted(t for o in apart for t in o.triggers) == sorted(together.triggers)


@settings(max_examples=15)
@given(st.integers(0, len(WHOLE)))
def test_a_restored_pipeline_goes_on_as_the_exported_one(tiny_detector: Detector, at: int) -> None:
    one, other = pipeline(tiny_detector), pipeline(tiny_detector, ["somebody else"])
    one.process(WHOLE.take(np.arange(at)))

    other.restore(one.export_partition(0))

    # Codes differ between processes; names do not.
    rest = WHOLE.take(np.arange(at, len(WHOLE)))
    codes = np.array([other.keys.add(one.keys.names[code]) for code in rest.stream], np.int64)
    here = one.process(rest)
    there = other.process(Readings(codes, rest.time_ns, rest.values, rest.partition, rest.offset))
    assert np.array_equal(there.scores.score, here.scores.score, equal_nan=True)
    assert there.alerts == here.alerts
    assert (there.duplicates, there.late) == (here.duplicates, here.late)
    assert other.counts() == one.counts()


def test_an_alert_has_shares_that_sum_to_one_and_a_resolve_repeats_what_was_told(tiny_detector: Detector) -> None:
    anomalies = [a for a in pipeline(tiny_detector).process(WHOLE).alerts if a.kind == "anomaly" and a.stream == "a"]

    for alert in anomalies:
        assert sum(part.share for part in alert.features) == pytest.approx(1, abs=1e-5)
        assert {part.name for part in alert.features} == {"heat", "current"}
        assert alert.model_version == VERSION
    assert anomalies[0].features[0].name == "current"
    assert anomalies[-1].features == anomalies[-2].features


def test_triggers_name_the_record_behind_each_alert(tiny_detector: Detector) -> None:
    outcome = pipeline(tiny_detector).process(WHOLE)

    for (partition, offset), event in zip(outcome.triggers, outcome.events, strict=True):
        assert partition == 0
        assert WHOLE.time_ns[offset] == event.at_ns


def test_streams_are_warming_then_active(tiny_detector: Detector) -> None:
    made = pipeline(tiny_detector)
    calm = tiny.fleet({0: tiny.wave(LENGTH, seed=3)})

    made.process(calm.take(np.arange(LENGTH - 1)))
    assert made.counts() == {"warming": 1, "active": 0, "alerting": 0, "silent": 0}
    made.process(calm.take(np.array([LENGTH - 1])))
    assert made.counts() == {"warming": 0, "active": 1, "alerting": 0, "silent": 0}


def test_a_forgotten_partition_warms_up_again(tiny_detector: Detector) -> None:
    made = pipeline(tiny_detector)
    made.process(WHOLE)

    made.forget(0)

    assert sum(made.counts().values()) == 0
    assert not made.keys.codes
    for name in STREAMS:
        made.keys.add(name)
    again = made.process(
        dataclasses.replace(WHOLE, stream=np.array([made.keys.codes[STREAMS[c]] for c in WHOLE.stream]))
    )
    assert np.array_equal(again.scores.score, pipeline(tiny_detector).process(WHOLE).scores.score, equal_nan=True)


def test_partitions_are_exported_and_forgotten_apart(tiny_detector: Detector) -> None:
    made = pipeline(tiny_detector)
    codes = [0, 1, 0, 1]
    made.process(tiny.readings(codes, [MINUTE_NS * i for i in (1, 1, 2, 2)], partitions=codes))

    made.forget(1)

    assert made.counts()["warming"] == 1
    assert made.export_partition(0).values["streams"] == ["a"]
    assert made.export_partition(1).values["streams"] == []
    assert "b" not in made.keys.codes


def test_a_gap_resets_the_window_and_is_counted(tiny_detector: Detector) -> None:
    values = tiny.wave(2 * LENGTH, seed=3)
    times = [tiny.START_NS + (i + (60 if i >= LENGTH else 0)) * MINUTE_NS for i in range(2 * LENGTH)]

    outcome = pipeline(tiny_detector).process(tiny.readings([0] * len(times), times, values))

    # 16 readings | an hour | 16 readings: two windows, one before and one after
    assert np.flatnonzero(~np.isnan(outcome.scores.score)).tolist() == [LENGTH - 1, 2 * LENGTH - 1]
    assert outcome.resets == 1


def test_a_snapshot_of_another_model_is_refused(tiny_detector: Detector) -> None:
    one, other = (
        pipeline(tiny_detector),
        Pipeline(SETTINGS.pipeline_options(), tiny_detector, "20260102T030405Z-ffffffff"),
    )
    one.process(WHOLE)

    with pytest.raises(StateError, match="snapshot is of model 20260102T030405Z-1a2b3c4d, the one in use is"):
        other.restore(one.export_partition(0))


@pytest.mark.parametrize(
    "station", ["ordering", "windows", "adaptation", "retrospective", "incidents", "times", "silence", "expiry", "keys"]
)
def test_a_snapshot_without_a_station_is_refused(tiny_detector: Detector, station: str) -> None:
    one = pipeline(tiny_detector)
    one.process(WHOLE)
    state = one.export_partition(0)
    kept = {name: column for name, column in state.columns.items() if not name.startswith(station)}

    with pytest.raises(StateError, match="does not fit"):
        pipeline(tiny_detector).restore(ExportedState(kept, state.values))


def test_a_refused_snapshot_leaves_nothing_behind(tiny_detector: Detector) -> None:
    one, other = pipeline(tiny_detector), pipeline(tiny_detector)
    one.process(WHOLE)
    state = one.export_partition(0)
    state.columns["windows.newest"] = state.columns["windows.newest"][:, 1:]

    with pytest.raises(StateError):
        other.restore(state)

    assert sum(other.counts().values()) == 0
    assert not set(STREAMS) & set(other.keys.codes)


def test_a_swap_keeps_windows_and_open_incidents(tiny_detector: Detector) -> None:
    first, rest = (
        WHOLE.take(WHOLE.time_ns < tiny.START_NS + 66 * MINUTE_NS),
        WHOLE.take(WHOLE.time_ns >= tiny.START_NS + 66 * MINUTE_NS),
    )
    made = pipeline(tiny_detector)
    before = made.process(first)
    assert before.alerts[-1].event in ("open", "update")
    held = made.counts()

    made.swap(dataclasses.replace(tiny_detector), "20270101T000000Z-00000000")

    assert made.counts() == held
    after = made.process(rest)
    steady = pipeline(tiny_detector)
    steady.process(first)
    steady.scorer._use(steady.scorer.detector, VERSION)  # adaptation to slow drift begins again
    assert np.isnan(after.scores.settled[after.readings.time_ns < tiny.START_NS + 82 * MINUTE_NS]).all()
    assert after.scores.score == pytest.approx(steady.process(rest).scores.score, rel=1e-3, nan_ok=True)
    assert {alert.model_version for alert in after.alerts} == {"20270101T000000Z-00000000"}


def test_a_restart_with_a_newer_bundle_settles_the_same_scores_as_a_swap(tiny_detector: Detector) -> None:
    newer, begin_ns = tiny.fit(seed=3), tiny.START_NS + 40 * MINUTE_NS
    swapped, stopped = pipeline(tiny_detector), pipeline(tiny_detector)
    for each in (swapped, stopped):
        each.process(WHOLE.take(WHOLE.time_ns < begin_ns))
    swapped.swap(newer, "newer")
    restarted = Pipeline(stopped.options, newer, "newer")
    restarted.restore(stopped.export_partition(0), made_with=tiny_detector)
    rest = WHOLE.take(WHOLE.time_ns >= begin_ns)
    scored = {}
    for each in (swapped, restarted):
        known = np.array([each.keys.add(name) for name in STREAMS])
        scored[each is swapped] = each.process(dataclasses.replace(rest, stream=known[rest.stream])).scores

    assert np.array_equal(scored[True].settled, scored[False].settled, equal_nan=True)
    assert np.isnan(scored[True].settled[:30]).all()
    assert not np.isnan(scored[True].settled).all()


def test_a_swap_to_what_does_not_fit_leaves_the_old_one(tiny_detector: Detector) -> None:
    made = pipeline(tiny_detector)

    with pytest.raises(ConfigError, match=r"records.features"):
        made.swap(dataclasses.replace(tiny_detector, features=("x", "y")), "other")

    assert made.scorer.version == VERSION


def test_a_swap_measures_silence_in_the_new_detectors_intervals(tiny_detector: Detector) -> None:
    faster = dataclasses.replace(tiny_detector, interval_s=tiny_detector.interval_s / 10)
    swapped = pipeline(tiny_detector)

    swapped.swap(faster, VERSION)

    assert swapped.silence.after_ns == pipeline(faster).silence.after_ns


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (
            {"records": {"features": ["current", "heat"]}},
            r"records\.features: the configuration says \['current', 'heat'\]",
        ),
        (
            {"window": {"length": 32}},
            r"window\.length: the configuration says 32, bundle v was trained with 16; retrain",
        ),
        ({"window": {"patch": 8}}, r"window\.patch: the configuration says 8, bundle v was trained with 4"),
    ],
)
def test_a_bundle_that_does_not_serve_the_configuration_is_refused_by_key(
    tiny_detector: Detector, sections: dict[str, dict[str, object]], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        fitted(tiny.settings(**sections).pipeline_options(), tiny_detector, "v")


def test_the_canary_passes_a_good_detector_and_stops_a_broken_one(tiny_detector: Detector) -> None:
    canary(tiny_detector)

    for line in (np.nan, -np.inf):
        with pytest.raises(ModelError):
            canary(tiny.with_tables(tiny_detector, line=np.full_like(tiny_detector.line, line)))


def test_a_float_max_sentinel_opens_an_incident(tiny_detector: Detector) -> None:
    hundredth, scale = np.float32(0.01), tiny_detector.scaler
    scaler = RobustScaler(scale.center * hundredth, scale.width * hundredth)
    series = tiny.wave(3 * LENGTH, seed=3) / 100
    series[2 * LENGTH :, 1] = np.finfo(np.float32).max

    with np.errstate(over="ignore"):
        made = pipeline(dataclasses.replace(tiny_detector, scaler=scaler))
        outcome = made.process(tiny.fleet({0: series.astype(np.float32)}))

    assert [alert.event for alert in outcome.alerts][:1] == ["open"]


def hourly(code: int, first: int, last: int) -> list[tuple[int, int]]:
    """A stream that sends every hour: (code, event time)."""
    return [(code, tiny.START_NS + hour * 60 * MINUTE_NS) for hour in range(first, last)]


def sent(arrivals: list[tuple[int, int]], values: NDArray[np.float32] | None = None) -> Readings:
    order = sorted(range(len(arrivals)), key=lambda i: (arrivals[i][1], arrivals[i][0]))
    codes, times = zip(*(arrivals[i] for i in order), strict=True)
    return tiny.readings(codes, times, None if values is None else values[order])


TTL = tiny.settings(
    records={"stream_ttl": "7d"},
    alerting={"open_after": 1, "open_within": 1, "resolve_after": 50, "silent_after": 5000.0},
)


def test_a_stream_gone_for_its_time_to_live_is_forgotten_and_its_incidents_resolve(tiny_detector: Detector) -> None:
    made = Pipeline(TTL.pipeline_options(), tiny_detector, VERSION)
    a, b = made.keys.add("a"), made.keys.add("b")
    values = np.concatenate([tiny.wave(LENGTH), tiny.wave(400)])
    values[LENGTH - 1] += 50  # a ends in the middle of an incident

    outcome = made.process(sent([*hourly(a, 0, LENGTH), *hourly(b, 0, 400)], values))

    assert [(alert.stream, alert.kind, alert.event) for alert in outcome.alerts if alert.stream == "a"] == [
        ("a", "anomaly", "open"),
        ("a", "silence", "open"),
        ("a", "anomaly", "resolve"),
        ("a", "silence", "resolve"),
    ]
    gone_ns = tiny.START_NS + (LENGTH - 1 + 7 * 24 + 1) * 60 * MINUTE_NS  # the first reading beyond seven days
    assert {event.at_ns for event in outcome.events if event.reason == "expired"} == {gone_ns}
    assert outcome.expired == 1
    made.sweep()
    assert made.keys.codes == {"b": b}
    assert sum(made.counts().values()) == 1


@pytest.mark.parametrize("cut", [1, 100, 184, 185, 186, 200, 300])
def test_a_stream_that_comes_back_after_its_time_to_live_warms_up_again_in_any_batches(
    tiny_detector: Detector, cut: int
) -> None:
    arrivals = [*hourly(0, 0, LENGTH), *hourly(1, 0, 400), *hourly(0, 300, 330)]
    whole = sent(arrivals, tiny.wave(len(arrivals)))
    one, other = (Pipeline(TTL.pipeline_options(), tiny_detector, VERSION) for _ in range(2))
    for made in (one, other):
        made.keys.add("a")
        made.keys.add("b")

    together = one.process(whole)
    apart = [other.process(part) for part in tiny.split(whole, [cut])]

    scored = ~np.isnan(together.scores.score[together.readings.stream == 0])
    assert scored.tolist() == [False] * (LENGTH - 1) + [True] + [False] * (LENGTH - 1) + [True] * (30 - LENGTH + 1)
    assert np.array_equal(scores(apart), together.scores.score, equal_nan=True)
    assert told(apart) == told([together])


def test_names_that_come_and_go_for_weeks_leave_nothing_behind(tiny_detector: Detector) -> None:
    made = Pipeline(TTL.pipeline_options(), tiny_detector, VERSION)
    rows = []
    for day in range(60):
        made.sweep()
        codes = [made.keys.add(f"pod-{day}-{i}") for i in range(50)] + [made.keys.add("steady")]
        at = [tiny.START_NS + day * 1440 * MINUTE_NS] * 51
        made.process(tiny.readings(codes, at, tiny.wave(51)))
        rows.append(len(made.keys.names))

    assert max(rows[10:]) == rows[10], "after the time to live the codes of others are used again"
    assert len(made.keys) <= 51 * 10


def test_a_poll_of_wide_windows_is_not_kept_whole() -> None:
    features = 128
    history = np.random.default_rng(0).normal(size=(200, features)).astype(np.float32)
    detector = fit(
        {"a": history},
        [f"f{i}" for i in range(features)],
        Architecture(features=features, window=64, patch=8, hidden=4, latent=2),
        interval_s=60,
        options=TrainingOptions(epochs=1, steps_per_epoch=2, batch_size=8),
        holdout=0.25,
    )
    options = PipelineOptions("readings", detector.features, window=64, patch=8)
    made = Pipeline(options, detector, VERSION)
    streams = 40
    code = np.tile([made.keys.add(str(i)) for i in range(streams)], 164)
    time_ns = np.repeat(np.arange(164), streams) * MINUTE_NS
    poll = tiny.readings(code.tolist(), time_ns.tolist(), np.tile(history[:164], (streams, 1)))
    made.process(poll.take(np.arange(64 * streams)))

    tracemalloc.start()
    made.process(poll.take(np.arange(64 * streams, len(poll))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    every_window = 100 * streams * 64 * features * 4
    assert every_window > 130e6
    assert peak < every_window / 2


def incidents_of(detector: Detector, alerting: dict[str, object]) -> int:
    """Incidents in four noisy days of clean data."""
    made = Pipeline(tiny.settings(alerting=alerting).pipeline_options(), detector, VERSION)
    made.keys.add("a")
    rows = 4 * 24 * 60
    noisy = tiny.wave(rows, seed=50) + np.random.default_rng(1).normal(0, 0.03, (rows, 2)).astype(np.float32)
    return sum(alert.event == "open" for alert in made.process(tiny.fleet({0: noisy})).alerts)


def test_the_budget_and_n_of_m_take_effect_without_retraining(tiny_detector: Detector) -> None:
    few, many = (incidents_of(tiny_detector, {"budget_per_stream_per_week": budget}) for budget in (0.001, 50.0))
    assert few < many

    lines = [
        Pipeline(tiny.settings(alerting=alerting).pipeline_options(), tiny_detector, VERSION).scorer.detector.line[1]
        for alerting in ({"open_after": 1, "open_within": 1}, {"open_after": 3, "open_within": 5})
    ]
    assert lines[0] > lines[1], "a single score must be higher to count than three of five"


def test_a_line_that_differs_from_the_bundles_is_said(tiny_detector: Detector) -> None:
    same = Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION)
    other = Pipeline(tiny.settings(alerting={"open_after": 1, "open_within": 1}).pipeline_options(), tiny_detector, "v")

    assert same.recomputed == []
    assert other.recomputed == ["open_after 1, not 3", "open_within 1, not 5"]


def test_a_bundle_without_calibration_refuses_other_alert_settings(tiny_detector: Detector) -> None:
    earlier = dataclasses.replace(tiny_detector, calibration=None)

    Pipeline(tiny.settings().pipeline_options(), earlier, VERSION)

    with pytest.raises(ConfigError, match=r"open_after 1, not 3.*change them back, or run `streamer retrain`"):
        Pipeline(tiny.settings(alerting={"open_after": 1}).pipeline_options(), earlier, VERSION)


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_a_short_strong_fault_opens_an_incident_at_any_stride(tiny_detector: Detector, stride: int) -> None:
    options = tiny.settings(window={"stride": stride}).pipeline_options()
    made = Pipeline(options, tiny_detector, VERSION)
    made.keys.add("a")
    values = tiny.wave(200, seed=3)
    values[100:110, 1] += 30

    outcome = made.process(tiny.fleet({0: values}))

    opened = [event for event in outcome.events if event.event == "open"]
    assert len(opened) == 1
    fault_ns = tiny.START_NS + 100 * MINUTE_NS
    assert 0 <= opened[0].at_ns - fault_ns <= (10 + stride) * MINUTE_NS


def with_ttl(detector: Detector, ttl: str, *names: str) -> Pipeline:
    made = Pipeline(tiny.settings(records={"stream_ttl": ttl}).pipeline_options(), detector, VERSION)
    for name in names:
        made.keys.add(name)
    return made


def test_a_shorter_time_to_live_after_a_restart_forgets_who_comes_back(tiny_detector: Detector) -> None:
    one, other = with_ttl(tiny_detector, "7d", "x", "y"), with_ttl(tiny_detector, "1h", "x", "y")
    minutes = [(1, tiny.START_NS + i * MINUTE_NS) for i in range(180)]
    one.process(sent([*[(0, at) for _, at in minutes[:LENGTH]], *minutes]))
    other.restore(one.export_partition(0))

    again = [(0, tiny.START_NS + (180 + i) * MINUTE_NS) for i in range(LENGTH)]
    outcome = other.process(sent(again))

    assert len(outcome.readings) == LENGTH
    assert np.isnan(outcome.scores.score[:-1]).all(), "a stream that was forgotten warms up again"


def test_a_copy_in_another_partition_does_not_touch_a_streams_time_to_live(tiny_detector: Detector) -> None:
    made = with_ttl(tiny_detector, "1h", "a", "b")
    steady = [(code, tiny.START_NS + i * MINUTE_NS) for i in range(400) for code in (0, 1)]
    made.process(sent(steady))
    copy = tiny.readings([0], [steady[-2][1]], partitions=[1])

    made.process(copy)
    later = made.process(sent([(0, steady[-1][1] + MINUTE_NS), (1, steady[-1][1] + MINUTE_NS)]))

    assert not np.isnan(later.scores.score).any()
    assert later.expired == 0


def test_old_readings_sent_to_another_partition_expire_nobody(tiny_detector: Detector) -> None:
    made = with_ttl(tiny_detector, "1h", "a", "q")
    hours = [tiny.START_NS + hour * 60 * MINUTE_NS for hour in range(100)]
    made.process(tiny.readings([1], hours[:1], partitions=[1]))
    made.process(tiny.readings([0] * 100, hours))

    outcome = made.process(tiny.readings([0] * 98, hours[1:99], partitions=[1] * 98))

    assert (outcome.late, outcome.expired) == (98, 0)


def test_streams_slower_than_their_time_to_live_are_new_each_time(tiny_detector: Detector) -> None:
    made = with_ttl(tiny_detector, "1h", *"abcdefgh")
    rows = 2400
    arrivals = [(i % 8, tiny.START_NS + i * 15 * MINUTE_NS) for i in range(rows)]  # each every two hours

    outcome = made.process(sent(arrivals))

    assert len(outcome.readings) == rows
    assert np.isnan(outcome.scores.score).all()


def test_a_stream_that_moved_is_not_taken_back_by_the_snapshot_of_its_old_partition(tiny_detector: Detector) -> None:
    old, here = with_ttl(tiny_detector, "7d", "x", "y"), with_ttl(tiny_detector, "7d", "x")
    times = [tiny.START_NS + i * MINUTE_NS for i in range(60)]
    old.process(tiny.readings([0, 1] * 30, sorted(times[:30] * 2), tiny.wave(60)))
    here.process(tiny.readings([0] * 60, times, tiny.wave(60), partitions=[5] * 60))

    here.restore(old.export_partition(0))

    assert here.process(tiny.readings([0] * 60, times, tiny.wave(60), partitions=[5] * 60)).duplicates == 1
    assert here.export_partition(5).values["streams"] == ["x"]
    assert here.export_partition(0).values["streams"] == ["y"]
