"""Names and severities that follow from what happened."""

from __future__ import annotations

import pytest

from streamer.core import events


@pytest.mark.parametrize(
    ("peak", "word"),
    [(1.0, "info"), (1.49, "info"), (1.5, "warning"), (2.99, "warning"), (3.0, "critical"), (1e9, "critical")],
)
def test_severity_follows_the_peak(peak: float, word: str) -> None:
    assert events.severity(peak) == word


def test_an_incident_id_is_the_same_on_every_machine() -> None:
    assert events.incident_id("t", "s", "anomaly", 5) == "149caa4ecfcbda055fc34b84fe1a05b8"


def test_ids_differ_when_any_part_differs() -> None:
    incidents = {
        events.incident_id(*parts)
        for parts in [
            ("t", "s", "anomaly", 5), ("u", "s", "anomaly", 5), ("t", "r", "anomaly", 5), ("t", "s", "silence", 5),
            ("t", "s", "anomaly", 6), ("ts", "", "anomaly", 5), ("t", "s", "anomaly5", 0),
        ]
    }  # fmt: skip
    alerts = {
        events.alert_id(*parts) for parts in [("i", "open", 5), ("i", "update", 5), ("i", "open", 6), ("j", "open", 5)]
    }

    assert len(incidents) == 7
    assert len(alerts) == 4
