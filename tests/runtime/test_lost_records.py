"""Incidents that are open when records are lost, or the topic is made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors.kafka import OffsetReset
from streamer.core.outcome import Outcome
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics
from streamer.runtime.positions import Position, Positions
from streamer.runtime.readiness import Anew
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.snapshots import Snapshot
from tests import tiny
from tests.runtime.stand_ins import Offsets, keeper_in, new_pipeline, partitions_of


def with_an_open_incident(keeper: StateKeeper, detector: Detector, topic_id: str | None = None) -> tuple[str, Pipeline]:
    """The name of a snapshot of partition 0 at offset 40, in which the incident of a stream is open."""
    pipeline = new_pipeline(detector)
    values = tiny.wave(40)
    values[30:, 1] += 8
    times = [tiny.START_NS + i * tiny.MINUTE_NS for i in range(40)]
    pipeline.process(tiny.readings([pipeline.keys.add("a")] * 40, times, values))
    assert pipeline.incidents.open_count == 1
    return keeper.write(0, Snapshot(40, pipeline.export_partition(0), topic_id)), pipeline


def test_open_incidents_resolve_when_retention_took_records_between_snapshot_and_commit(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    keeper, told, positions = keeper_in(tmp_path), list[Outcome](), Positions()
    name, _ = with_an_open_incident(keeper, tiny_detector)
    pipeline = new_pipeline(tiny_detector)
    offsets = Offsets({0: 80}, end=200, states={0: (name,)}, first=60)

    partitions_of(pipeline, keeper, offsets, positions, publish=told.append).assigned([0])

    assert [(a.event, a.stream, a.reason) for outcome in told for a in outcome.alerts] == [
        ("resolve", "a", "records_lost")
    ]
    assert told[0].triggers == [(0, 80)]
    assert offsets.sought[0] >= 60
    assert positions[0].publish_from == 80
    assert len(pipeline.keys.held()) == 0


@pytest.mark.parametrize("running", [True, False])
def test_open_incidents_resolve_when_records_are_lost(tiny_detector: Detector, tmp_path: Path, running: bool) -> None:
    keeper, told, positions = keeper_in(tmp_path), list[Outcome](), Positions()
    name, pipeline = with_an_open_incident(keeper, tiny_detector)
    if not running:
        pipeline = new_pipeline(tiny_detector)
    offsets = Offsets({0: 40}, end=200, states={0: (name,)}, first=0 if running else 60)
    partitions = partitions_of(pipeline, keeper, offsets, positions, publish=told.append)

    if running:
        positions[0] = Position(40, 40, 40, 40)
        partitions.offset_reset(OffsetReset(0, wanted=40, restarted_at=60, lost=20))
    else:
        partitions.assigned([0])

    assert [(a.event, a.stream, a.reason) for outcome in told for a in outcome.alerts] == [
        ("resolve", "a", "records_lost")
    ]
    assert told[0].triggers == [(0, 60)]
    assert positions[0].publish_from == 60
    assert pipeline.incidents.open_count == 0
    assert len(pipeline.keys.held()) == 0


def begun(
    detector: Detector, keeper: StateKeeper, offsets: Offsets, **others: Any
) -> tuple[list[tuple[str, str, str | None]], Positions]:
    """What a new replica tells when it is given partition 0, and where it stands then."""
    told, positions = list[Outcome](), Positions()
    partitions_of(new_pipeline(detector), keeper, offsets, positions, publish=told.append, **others).assigned([0])
    return [(a.alert_id, a.incident_id, a.reason) for outcome in told for a in outcome.alerts], positions


@pytest.mark.parametrize("start", ["earliest", "latest"])
@pytest.mark.parametrize("forgotten", [True, False])
def test_what_was_open_in_a_topic_made_again_ends_with_whoever_begins_the_partition_until_it_has_committed(
    tiny_detector: Detector, tmp_path: Path, start: str, forgotten: bool
) -> None:
    """The broker may have forgotten the group's commit with the topic, or not; the replica may be killed."""
    keeper = keeper_in(tmp_path)
    name, pipeline = with_an_open_incident(keeper, tiny_detector, "old")
    (opened,) = {a.incident_id for a in pipeline.lose_records(0, 0).alerts}
    settings = tiny.settings(kafka={"start": start})

    def offsets() -> Offsets:
        return Offsets({} if forgotten else {0: 40}, end=100, states={0: (name,)}, topic_id="old")

    first, positions = begun(tiny_detector, keeper, offsets(), settings=settings, topic_id="new")
    again, _ = begun(tiny_detector, keeper, offsets(), settings=settings, topic_id="new")

    assert [(incident, reason) for _, incident, reason in first] == [(opened, "records_lost")]
    assert again == first
    assert (positions[0].next_offset, positions[0].publish_from) == (0, 0)
    committed = keeper.write(0, Snapshot(7, new_pipeline(tiny_detector).export_partition(0), "new"))
    assert begun(tiny_detector, keeper, offsets(), settings=settings, topic_id="new")[0] == []
    keeper.store.forget(0, [committed], positions[0].left_behind)
    assert keeper.store.names(0) == [committed]


@pytest.mark.parametrize("written_in", ["new", None])
def test_incidents_of_the_topic_of_now_do_not_end_because_the_groups_offsets_are_gone(
    tiny_detector: Detector, tmp_path: Path, written_in: str | None
) -> None:
    keeper = keeper_in(tmp_path)
    with_an_open_incident(keeper, tiny_detector, written_in)

    told, _ = begun(tiny_detector, keeper, Offsets({}), topic_id="new")

    assert told == []


@pytest.mark.parametrize("seen", ["when partitions are assigned", "when an offset is not there"])
def test_a_topic_made_again_ends_the_connection_and_its_incidents_end_once(
    tiny_detector: Detector, tmp_path: Path, seen: str
) -> None:
    keeper, told, metrics = keeper_in(tmp_path), list[Outcome](), Metrics(CollectorRegistry())
    _, pipeline = with_an_open_incident(keeper, tiny_detector, "old")
    positions, offsets, now = Positions({0: Position(41, 40, 40, 40)}), Offsets({0: 40}), ["old"]
    partitions = partitions_of(
        pipeline, keeper, offsets, positions, publish=told.append, metrics=metrics, topic_id="old",
        ask_topic_id=lambda: now[0],
    )  # fmt: skip

    now[0] = "new"
    act: Any = partitions.assigned if seen == "when partitions are assigned" else partitions.offset_reset
    with pytest.raises(Anew, match="was made again"):
        act([0, 1] if act == partitions.assigned else OffsetReset(0, wanted=41, restarted_at=0, lost=0))

    assert positions == {}
    assert [a.reason for outcome in told for a in outcome.alerts] == ["records_lost"]
    assert metrics.registry.get_sample_value("streamer_topics_recreated_total") == 1
    offsets.commits.clear()
    assert begun(tiny_detector, keeper, offsets, topic_id="new")[0] == []
