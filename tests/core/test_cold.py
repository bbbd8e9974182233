"""Streams whose past was lost say so in their alerts, until they have had enough history again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.detector import Detector
from streamer.core.alerts import Alert
from streamer.core.cold import WINDOWS
from streamer.core.pipeline import Pipeline
from streamer.core.readings import Readings
from tests import tiny
from tests.tiny import LENGTH, MINUTE_NS, VERSION

ENOUGH = WINDOWS * LENGTH
FAULTS = (30, 55, 62, 80, 110)


def faulty() -> Readings:
    """Two hours of two streams, with a fault of `a` every now and then."""
    series = {code: tiny.wave(140, seed=20 + code, level=10.0 * code) for code in range(2)}
    for at in FAULTS:
        series[0][at : at + 5, 1] += 8
    return tiny.fleet(series)


def pipeline(detector: Detector, **sections: dict[str, object]) -> Pipeline:
    alerting = {"open_after": 2, "open_within": 3, "resolve_after": 4, "silent_after": 8.0}
    made = Pipeline(tiny.settings(alerting=alerting, **sections).pipeline_options(), detector, VERSION)
    for name in ("a", "b", "c"):
        made.keys.add(name)
    return made


def alerts(made: Pipeline, whole: Readings, cuts: Sequence[int] = ()) -> list[Alert]:
    return [alert for part in tiny.split(whole, cuts) for alert in made.process(part).alerts]


def readings_so_far(alert: Alert) -> int:
    """Readings of a stream that has sent one a minute from the start, up to an alert."""
    at_ns = int(np.datetime64(alert.time.rstrip("Z")).astype("datetime64[ns]").astype(np.int64))
    return (at_ns - tiny.START_NS) // MINUTE_NS + 1


def test_alerts_of_a_partition_that_began_cold_say_so_for_four_windows(tiny_detector: Detector) -> None:
    cold, warm = pipeline(tiny_detector), pipeline(tiny_detector)
    cold.begin_cold(0)

    told, known = alerts(cold, faulty()), alerts(warm, faulty())

    assert [a.alert_id for a in told] == [a.alert_id for a in known]
    assert [a.cold_start for a in told] == [readings_so_far(a) < ENOUGH for a in told]
    assert {a.cold_start for a in told} == {True, False}
    assert not any(a.cold_start for a in known)


@pytest.mark.parametrize("cuts", [range(0, 280, 1), range(0, 280, 7), (3, 100, 127, 128, 129)])
def test_it_does_not_depend_on_the_batches(tiny_detector: Detector, cuts: Sequence[int]) -> None:
    whole, cut = pipeline(tiny_detector), pipeline(tiny_detector)
    whole.begin_cold(0)
    cut.begin_cold(0)

    assert alerts(cut, faulty(), cuts) == alerts(whole, faulty())


def test_it_moves_with_the_partition(tiny_detector: Detector) -> None:
    first, second, undisturbed = (pipeline(tiny_detector) for _ in range(3))
    first.begin_cold(0)
    undisturbed.begin_cold(0)
    before, after = tiny.split(faulty(), [110])

    told = alerts(first, before)
    second.restore(first.export_partition(0))

    assert told + alerts(second, after) == alerts(undisturbed, faulty())


def test_a_partition_with_no_stream_yet_stays_cold_over_a_restart(tiny_detector: Detector) -> None:
    first, second = pipeline(tiny_detector), pipeline(tiny_detector)
    first.begin_cold(0)

    second.restore(first.export_partition(0))

    assert any(alert.cold_start for alert in alerts(second, faulty()))


def test_a_stream_that_comes_after_a_time_to_live_is_simply_new(tiny_detector: Detector) -> None:
    made = pipeline(tiny_detector, records={"stream_ttl": 3600.0})
    made.begin_cold(0)
    whole = faulty()
    late = Readings(whole.stream * 2, whole.time_ns, whole.values, whole.partition, whole.offset)
    late = late.take(np.flatnonzero(late.stream == 0))  # the faulty stream alone, which begins a day later
    shifted = Readings(late.stream, late.time_ns + 1440 * MINUTE_NS, late.values, late.partition, late.offset)
    hours = np.arange(0, 1440, 10)
    company = tiny.readings([1] * len(hours), (tiny.START_NS + hours * MINUTE_NS).tolist(), tiny.wave(len(hours)))

    alerts(made, company)
    told = alerts(made, shifted)

    assert told
    assert not any(alert.cold_start for alert in told if alert.stream == "a")


def test_another_partition_is_not_cold(tiny_detector: Detector) -> None:
    made = pipeline(tiny_detector)
    made.begin_cold(1)

    assert not any(alert.cold_start for alert in alerts(made, faulty()))
