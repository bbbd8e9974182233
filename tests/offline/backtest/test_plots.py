"""Pictures: bounded, and no spike lost; what they look like is for eyes."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.core.alerts import Attribution
from streamer.offline.backtest import plots
from streamer.offline.backtest.evaluation import Incident, Labelled
from tests.tiny import MINUTE_NS

PNG = b"\x89PNG\r\n"


def test_a_short_series_is_drawn_as_it_is() -> None:
    time, values = plots.thin(np.arange(40) * MINUTE_NS, np.arange(40.0), columns=10)

    assert len(time) == 40
    assert values.tolist() == list(range(40))


def test_a_long_series_keeps_the_lowest_and_the_highest_value_of_every_column() -> None:
    values = np.sin(np.arange(100_000) / 50)
    values[43_210], values[77_777] = 9, -9

    time, thinned = plots.thin(np.arange(100_000) * MINUTE_NS, values, columns=500)

    assert len(thinned) <= 1000
    assert (thinned.max(), thinned.min()) == (9, -9)
    assert (np.diff(time.astype(np.int64)) >= 0).all()
    where = time[thinned.argmax()].astype(np.int64) / MINUTE_NS
    assert abs(where - 43_210) <= 200


def test_missing_values_stay_missing_only_where_a_column_has_no_other() -> None:
    values = np.ones(10_000)
    values[:5000] = np.nan
    values[5000::2] = np.nan

    _, thinned = plots.thin(np.arange(10_000) * MINUTE_NS, values, columns=100)

    assert np.isnan(thinned[:98]).all()
    assert (thinned[102:] == 1).all()


def test_time_in_years_does_not_overflow() -> None:
    time_ns = np.linspace(0, 9e18, 50_000).astype(np.int64)

    time, _ = plots.thin(time_ns, np.zeros(50_000), columns=100)

    assert len(time) == 200


@pytest.mark.parametrize("incidents", [0, 1, 300])
def test_a_stream_is_drawn_whatever_it_has(incidents: int) -> None:
    n = 2000
    found = [
        Incident(str(k), 0, k * MINUTE_NS, k * MINUTE_NS, k * MINUTE_NS, (k + 2) * MINUTE_NS, True, 2.0, k, "", ())
        for k in range(0, 5 * incidents, 5)
    ]
    known = [Labelled(0, 10 * MINUTE_NS, 10 * MINUTE_NS, 1)] * bool(incidents)
    score = np.full(n, np.nan if incidents == 0 else 0.5, np.float32)  # nothing scored is a case too

    image = plots.draw_stream(
        "x", np.arange(n) * MINUTE_NS, np.zeros((n, 9)), score, list("abcdefghi"), range(9), found, known, {7: 0}
    )

    assert image.startswith(PNG)


def test_an_incident_is_drawn_with_shares_over_time() -> None:
    n = 50
    x = np.zeros((n, 2), np.float32)
    parts = [Attribution("a", 0.7, 0, 0), Attribution("b", 0.3, 0, 0)]

    image = plots.draw_incident(
        "x",
        np.arange(n) * MINUTE_NS,
        x,
        np.full((n, 2), np.nan, np.float32),
        x,
        np.ones(n, np.float32),
        ["a", "b"],
        [1, 0],
        (10 * MINUTE_NS, 20 * MINUTE_NS),
        attributions=[(12 * MINUTE_NS, parts), (15 * MINUTE_NS, parts[::-1])],
        colors={"a": "#000000"},
        labelled=[(5 * MINUTE_NS, 15 * MINUTE_NS)],
    )

    assert image.startswith(PNG)


def test_a_map_without_incidents_is_drawn() -> None:
    points = np.zeros((5, 2), np.float32)

    assert plots.draw_map(points, np.full(5, 0.01, np.float32), points[:0], []).startswith(PNG)
