"""What partitions hold back is released when they are idle and all of them was read, and only then."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors.kafka.decoding import decoder_for
from streamer.core.pipeline import Pipeline
from streamer.errors import BrokerError
from streamer.observability.metrics import Metrics
from streamer.runtime.intake import Intake
from streamer.runtime.positions import Position, Positions
from streamer.runtime.publishing import Publisher
from streamer.runtime.refusals import RefusalLog
from tests import tiny
from tests.messages import batch
from tests.tiny import VERSION

IDLE_S = 60.0


class World:
    """An intake of one partition that waits ten minutes for late readings, with a clock of its own."""

    def __init__(self, detector: Detector, *, publish_from: int = 0) -> None:
        settings = tiny.settings(time={"lateness": 600.0, "idle": IDLE_S})
        pipeline = Pipeline(settings.pipeline_options(), detector, VERSION)
        self.now_s = 1000.0
        self.metrics = Metrics(CollectorRegistry())
        self.positions: Positions = {0: Position(0, publish_from, -1)}
        self.end: int | BrokerError = 0
        self.asked = 0
        refusals = RefusalLog("dlq", lambda: self.now_s)
        sinks: Any = None  # nothing of this is an alert
        publisher = Publisher(
            sinks,
            self.positions,
            pipeline=pipeline,
            topic="readings",
            scores=False,
            metrics=self.metrics,
            refusals=refusals,
            clock=lambda: self.now_s,
        )
        self.intake = Intake(
            self.positions,
            pipeline=pipeline,
            decoder=decoder_for(settings, pipeline.keys),
            options=settings.time,
            publisher=publisher,
            metrics=self.metrics,
            clock=lambda: self.now_s,
        )

    def arrive(self, count: int = 3) -> None:
        first = self.positions[0].next_offset
        self.intake.take_in([batch([reading(n) for n in range(first, first + count)], first=first)])
        self.end = first + count

    def look(self, later_s: float, lag: int = 0) -> float:
        """Readings windowed, after some time and a look at what is idle."""
        self.now_s += later_s
        self.intake.release_idle({0: lag}, self.bounds)
        return self.windowed()

    def bounds(self, partition: int) -> tuple[int, int]:
        self.asked += 1
        if isinstance(self.end, BrokerError):
            raise self.end
        return 0, self.end

    def windowed(self) -> float:
        return self.metrics.registry.get_sample_value("streamer_records_windowed_total") or 0.0


def reading(minute: int) -> bytes:
    moment = datetime.fromtimestamp(tiny.START_NS / 1e9, UTC) + timedelta(minutes=minute)
    return json.dumps({"stream": "a", "timestamp": moment.isoformat(), "heat": 1.0, "current": 1.0}).encode()


@pytest.fixture
def world(tiny_detector: Detector) -> World:
    return World(tiny_detector)


def test_an_idle_partition_all_of_which_was_read_releases_what_it_held_back(world: World) -> None:
    world.arrive()

    early, late = world.look(IDLE_S), world.look(600.0)

    assert (early, late) == (0, 3)
    assert world.positions[0].saved_offset == -1


def test_records_that_the_broker_holds_and_the_client_has_not_seen_yet_keep_a_partition_waiting(world: World) -> None:
    world.arrive()
    world.end = 4

    unseen = world.look(700.0)
    asked = world.asked
    world.end = 3
    again, released = world.look(599.0), world.look(2.0)

    assert (unseen, asked, again, released) == (0, 1, 0, 3)


def test_a_partition_with_lag_is_not_asked_about(world: World) -> None:
    world.arrive()

    assert world.look(700.0, lag=5) == 0
    assert world.asked == 0


def test_a_broker_that_does_not_answer_leaves_the_partition_waiting(world: World) -> None:
    world.arrive()
    world.end = BrokerError("away")

    assert world.look(700.0) == 0

    world.end = 3
    assert world.look(601.0) == 3


def test_a_broker_that_does_not_answer_is_asked_about_one_partition_in_a_turn(world: World) -> None:
    world.positions[1] = Position(0, 0, -1)
    world.arrive()
    world.intake.take_in([batch([reading(n).replace(b'"a"', b'"b"') for n in range(3)], partition=1)])
    world.end = BrokerError("away")  # after half a minute each time

    asked = []
    for later_s in (700.0, 1.0, 1.0, 1.0):
        world.look(later_s)
        asked.append(world.asked)

    assert asked == [1, 2, 2, 2]  # each once, and then not before it has been quiet as long again


def test_polling_that_pauses_on_purpose_makes_no_partition_idle(world: World) -> None:
    world.arrive()
    world.now_s += 650.0
    world.intake.wait()

    assert world.look(1.0) == 0
    assert world.asked == 0
    assert world.look(601.0) == 3


def test_marks_of_transactions_behind_the_last_record_do_not_keep_a_partition_from_being_idle(world: World) -> None:
    world.arrive()
    world.end = 5  # two marks

    world.intake.pass_marks(lambda partition: 5)

    assert world.look(700.0) == 3
    assert world.positions[0].next_offset == 5


def test_a_consumer_that_does_not_know_its_position_moves_nothing(world: World) -> None:
    world.arrive()

    def unknown(partition: int) -> int:
        raise BrokerError("not assigned")

    world.intake.pass_marks(unknown)

    assert world.positions[0].next_offset == 3


def test_a_partition_that_only_rebuilds_its_state_releases_nothing(tiny_detector: Detector) -> None:
    world = World(tiny_detector, publish_from=10)
    world.arrive()

    assert world.look(700.0) == 0
    assert world.asked == 0
