"""What the daemon says of itself: reasons by kind for metrics, in words for people, one log line for each change."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry

from streamer.errors import BrokerError, StateUnavailable
from streamer.observability.metrics import Metrics
from streamer.runtime.sight import why
from streamer.runtime.status import NotReady, Reason, Status


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def status(registry: CollectorRegistry) -> Status:
    return Status(Metrics(registry), lambda: 0.0)


def reasons(registry: CollectorRegistry) -> dict[str, float | None]:
    return {each.value: registry.get_sample_value("streamer_not_ready", {"reason": each.value}) for each in Reason}


def test_a_daemon_starts_not_ready_and_every_reason_has_a_series(status: Status, registry: CollectorRegistry) -> None:
    assert reasons(registry) == {each.value: float(each is Reason.STARTING) for each in Reason}
    assert registry.get_sample_value("streamer_ready") == 0


def test_several_reasons_are_told_together_and_go_together(status: Status, registry: CollectorRegistry) -> None:
    status.set_ready([NotReady(Reason.PARTITIONS_PAUSED, "paused"), NotReady(Reason.NOTHING_COMMITTED, "stale")])
    both = reasons(registry)
    said = status.not_ready()
    status.set_ready([])

    assert {name for name, value in both.items() if value} == {"partitions_paused", "nothing_committed"}
    assert said == "paused; stale"
    assert status.not_ready() is None
    assert not any(reasons(registry).values())
    assert registry.get_sample_value("streamer_ready") == 1


def test_the_log_has_one_line_for_each_change(status: Status, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    for _ in range(3):
        status.set_ready([NotReady(Reason.LOGIN_REFUSED, "authentication failed")])
        status.note("partitions", "no partition to read")
    for _ in range(3):
        status.set_ready([])
        status.note("partitions", None)

    assert [record.getMessage() for record in caplog.records] == [
        "not ready: authentication failed",
        "no partition to read",
        "ready",
    ]
    assert status.notes() == ()


def test_a_store_that_does_not_answer_is_told_from_a_broker_that_does_not() -> None:
    assert why(StateUnavailable("no answer")).reason is Reason.STATE_STORE
    assert why(BrokerError("no answer")).reason is Reason.BROKER_ERROR
