"""The independent program agrees with the product, and sees what is lost or too many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors.kafka import RecordBatch
from streamer.connectors.kafka.decoding import decoder_for
from streamer.core.pipeline import Pipeline
from tests.faults import load
from tests.faults.expected import Record, Rules, Swaps, Told, expected

STEPS = 300


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundles")
    load.train(directory, streams=6)
    return directory


def _settings(*, stride: int, fill: bool) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"topic": "readings"},
            "records": {
                "features": list(load.FEATURES),
                "timestamp_unit": "ms",
                "missing": "fill" if fill else "refuse",
            },
            "window": {"length": load.LENGTH, "patch": load.PATCH, "stride": stride, "max_gap_s": 150.0},
            "alerting": {"silent_after": None, "resolve_after": 12},
        }
    )


def _product(records: list[Record], settings: Settings, bundles: Path, swap_at: int | None) -> Told:
    """The pipeline itself, in batches of odd sizes."""
    registry = Registry(bundles)
    first, second = registry.versions()
    pipeline = Pipeline(settings.pipeline_options(), registry.load(first)[0], first)
    decoder = decoder_for(settings, pipeline.keys)
    told = Told()
    begin, size = 0, 7
    while begin < len(records):
        if swap_at is not None and begin <= swap_at < begin + size:
            size = max(1, swap_at - begin)
        if begin == swap_at:
            pipeline.swap(registry.load(second)[0], second)
        some = records[begin : begin + size]
        begin, size = begin + size, size % 97 + 13
        n = len(some)
        batch = RecordBatch(
            "readings", 0, np.array([each.offset for each in some]), np.full(n, -1),
            [None] * n, [each.value for each in some], [()] * n,
        )  # fmt: skip
        outcome = pipeline.process(decoder.decode(batch).readings)
        for alert in outcome.alerts:
            told.alerts[alert.alert_id] = {"event": alert.event, "score": alert.score, "peak_score": alert.peak_score}
        for row in np.flatnonzero(~np.isnan(outcome.scores.score)).tolist():
            name = pipeline.keys.names[outcome.readings.stream[row]]
            told.scores[name, int(outcome.readings.time_ns[row])] = float(outcome.scores.score[row])
    return told


def _records(*, fill: bool) -> list[Record]:
    fleet = load.Load(streams=6, seed=3, gaps=0.004, missing=0.05 if fill else 0.0, anomalies=0.01)
    messages = [value for _ in range(STEPS) for _, value in fleet.step()]
    return [Record(0, offset, value) for offset, value in enumerate(messages)]


@pytest.mark.parametrize(("stride", "fill", "swaps"), [(1, False, False), (4, True, False), (1, True, True)])
def test_it_gives_the_scores_and_alerts_of_the_pipeline(bundles: Path, stride: int, fill: bool, swaps: bool) -> None:
    records, settings, registry = _records(fill=fill), _settings(stride=stride, fill=fill), Registry(bundles)
    versions = registry.versions()
    detectors = {each: registry.load(each)[0] for each in versions}
    swap_at = len(records) // 2 if swaps else None
    rules = Rules(
        "readings", load.FEATURES, load.LENGTH, stride, max_gap_ns=150_000_000_000, fill=fill, resolve_after=12
    )

    ours = _product(records, settings, bundles, swap_at)
    own = expected(
        records, rules, detectors, Swaps(versions[0], {0: [(swap_at, versions[1])]} if swap_at is not None else {})
    )

    assert own.scores == ours.scores
    assert own.alerts.keys() == ours.alerts.keys()
    events = [alert["event"] for alert in own.alerts.values()]
    assert min(events.count(event) for event in ("open", "update", "resolve")) >= 3
    for id, alert in own.alerts.items():
        assert round(alert["score"], 6) == ours.alerts[id]["score"]
        assert round(alert["peak_score"], 6) == ours.alerts[id]["peak_score"]
