"""A checkpoint is flush, snapshot, commit, in this order; a step that fails stops the sequence."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors.kafka import Commit
from streamer.core.pipeline import Pipeline
from streamer.errors import CommitFailed, ConfigError, DeliveryFailed
from streamer.observability.metrics import Metrics
from streamer.runtime.checkpoints import Checkpoints
from streamer.runtime.positions import Position, Positions
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.pointer import read_note
from streamer.runtime.state.snapshots import Codec
from streamer.runtime.status import Status
from tests import tiny
from tests.tiny import VERSION


class Broker:
    """Stands where sinks and consumer are; notes what was asked, and the snapshot that a commit named."""

    pending = 0

    def __init__(self, keeper: StateKeeper, fails: str = "") -> None:
        self.keeper, self.fails = keeper, fails
        self.calls: list[tuple[str, int | None]] = []
        self.named: list[tuple[str, ...]] = []

    def flush(self, timeout_s: float) -> None:
        self.calls.append(("flush", None))
        if self.fails == "flush":
            raise DeliveryFailed("refused")

    def commit(self, commits: Mapping[int, Commit]) -> None:
        for partition, commit in commits.items():
            self.named.append(read_note(commit.note).states)
            snapshot = self.keeper.read(partition, self.named[-1][0])
            self.calls.append((f"commit {partition}: {commit.offset}", snapshot.offset))
        if self.fails == "commit":
            raise CommitFailed("another owner")


def keeper_in(directory: Path) -> StateKeeper:
    return StateKeeper(LocalStore(directory, "readings", "g"), Codec("readings", "s1"))


def made(
    detector: Detector, broker: Broker, positions: Positions, *, stop: threading.Event | None = None
) -> tuple[Checkpoints, Metrics]:
    metrics = Metrics(CollectorRegistry())
    ours: Any = broker
    return Checkpoints(
        positions,
        pipeline=Pipeline(tiny.settings().pipeline_options(), detector, VERSION),
        sinks=ours,
        keeper=broker.keeper,
        consumer=ours,
        metrics=metrics,
        status=Status(metrics, lambda: 0.0),
        stop=stop or threading.Event(),
        clock=lambda: 0.0,
    ), metrics


def counted(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"streamer_{name}_total") or 0.0


def test_alerts_are_acknowledged_before_the_snapshot_and_the_snapshot_is_on_disk_before_the_commit(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    broker, positions = Broker(keeper_in(tmp_path)), {0: Position(7, 0, 0, 0)}
    checkpoints, metrics = made(tiny_detector, broker, positions)

    done = checkpoints.take([0], timeout_s=1.0)

    assert done
    assert broker.calls == [("flush", None), ("commit 0: 7", 7)]
    assert positions == {0: Position(7, 0, saved_offset=7, committed=7, states=broker.named[0])}
    assert counted(metrics, "checkpoints") == 1


@pytest.mark.parametrize(
    ("fails", "calls"),
    [
        ("flush", [("flush", None)]),
        ("snapshot", [("flush", None)]),
        ("commit", [("flush", None), ("commit 0: 7", 7)]),
    ],
)
def test_a_step_that_fails_stops_the_sequence_and_the_next_checkpoint_tries_again(
    tiny_detector: Detector, tmp_path: Path, fails: str, calls: list[tuple[str, int | None]]
) -> None:
    (tmp_path / "file").touch()
    keeper = keeper_in(tmp_path / ("file" if fails == "snapshot" else "state"))
    broker, positions = Broker(keeper, fails), {0: Position(7, 0, 0, 0)}
    checkpoints, metrics = made(tiny_detector, broker, positions)

    done = checkpoints.take([0], timeout_s=1.0)

    assert not done
    assert broker.calls == calls
    assert positions == {0: Position(7, 0, saved_offset=0, committed=0)}
    assert counted(metrics, "checkpoint_failures") == 1


def test_while_a_partition_catches_up_on_its_past_the_commit_stays_where_it_is(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    broker, positions = Broker(keeper_in(tmp_path)), {0: Position(7, publish_from=20, saved_offset=-1, committed=20)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    checkpoints.take([0], timeout_s=1.0)

    assert broker.calls == [("flush", None), ("commit 0: 20", 7)]


def test_a_partition_without_new_records_is_not_saved_again(tiny_detector: Detector, tmp_path: Path) -> None:
    broker = Broker(keeper_in(tmp_path))
    checkpoints, _ = made(tiny_detector, broker, {0: Position(7, 0, saved_offset=7, committed=7)})

    checkpoints.take([0], timeout_s=1.0)

    assert broker.calls == [("flush", None)]


class Slow(LocalStore):
    """Writes when it is told to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "readings", "g")
        self.may_write = threading.Event()

    def write(self, partition: int, offset: int, body: Sequence[bytes]) -> str:
        assert self.may_write.wait(30)
        return super().write(partition, offset, body)


def test_while_state_is_written_the_loop_goes_on_and_what_was_frozen_is_committed(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    slow = Slow(tmp_path)
    broker, positions = Broker(StateKeeper(slow, Codec("readings", "s1"))), {0: Position(7, 0, 0, 0)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    checkpoints.begin([0], timeout_s=1.0)
    positions[0].next_offset = 9  # read meanwhile
    checkpoints.advance()
    before = list(broker.calls)
    slow.may_write.set()
    checkpoints.take([0], timeout_s=30.0)

    assert before == [("flush", None)]
    assert broker.calls[1:] == [("commit 0: 7", 7), ("flush", None), ("commit 0: 9", 9)]
    assert broker.named[1] == (positions[0].states[0], broker.named[0][0])  # the new one, and the one before


def test_what_an_idle_partition_released_while_state_was_written_is_saved_with_the_next_checkpoint(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    slow = Slow(tmp_path)
    broker, positions = Broker(StateKeeper(slow, Codec("readings", "s1"))), {0: Position(7, 0, 0, 0)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    checkpoints.begin([0], timeout_s=1.0)
    positions[0].changed()  # no record moves it
    slow.may_write.set()
    checkpoints.take([], timeout_s=30.0)
    clean = positions[0].clean
    checkpoints.take([0], timeout_s=30.0)

    assert not clean
    assert [call for call, _ in broker.calls if "commit" in call] == ["commit 0: 7", "commit 0: 7"]
    assert positions[0].clean


def test_what_was_frozen_of_a_partition_that_left_and_came_back_is_not_committed(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    slow = Slow(tmp_path)
    broker, positions = Broker(StateKeeper(slow, Codec("readings", "s1"))), {0: Position(7, 0, 0, 0)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    checkpoints.begin([0], timeout_s=1.0)
    positions[0] = Position(30, 30, 30, 30)  # another replica went on to 30 in between
    slow.may_write.set()
    checkpoints.take([0], timeout_s=30.0)

    assert [call for call, _ in broker.calls if "commit" in call] == []
    assert positions == {0: Position(30, 30, 30, 30)}


def test_a_store_that_never_answers_does_not_hold_up_a_stop(tiny_detector: Detector, tmp_path: Path) -> None:
    slow, stop, others = Slow(tmp_path), threading.Event(), set(threading.enumerate())
    broker, positions = Broker(StateKeeper(slow, Codec("readings", "s1"))), {0: Position(7, 0, 0, 0)}
    checkpoints, _ = made(tiny_detector, broker, positions, stop=stop)

    checkpoints.begin([0], timeout_s=1.0)
    stop.set()
    done = checkpoints.take_last(timeout_s=0.1)
    checkpoints.close()
    left = set(threading.enumerate()) - others
    daemons = [thread.daemon for thread in left]
    answered = slow.may_write.is_set()
    slow.may_write.set()
    for thread in left:
        thread.join(30)

    assert not done
    assert not answered
    assert daemons == [True]  # so that the interpreter does not wait for it either


@pytest.mark.parametrize(
    ("fails", "said"), [("", "final checkpoint written"), ("commit", "final checkpoint not written")]
)
def test_the_log_says_whether_the_final_checkpoint_was_written_and_how_long_it_took(
    tiny_detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture, fails: str, said: str
) -> None:
    broker, positions = Broker(keeper_in(tmp_path), fails), {0: Position(7, 0, 0, 0)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    with caplog.at_level("INFO"):
        checkpoints.take_last(timeout_s=30.0)

    last = caplog.messages[-1]
    assert last.startswith(said)
    assert re.search(r"\d+\.\d s", last)


class Refusing(LocalStore):
    """Cannot be connected to now, nor removed from."""

    def __init__(self, directory: Path, error: Exception) -> None:
        super().__init__(directory, "readings", "g")
        self.error: Exception | None = error

    def write(self, partition: int, offset: int, body: Sequence[bytes]) -> str:
        if self.error is not None:
            raise self.error
        return super().write(partition, offset, body)

    def forget(self, partition: int, kept: Sequence[str], gone: Sequence[str] = ()) -> None:
        raise ConfigError("certificate and key do not match")


def test_a_certificate_that_is_being_renewed_is_a_checkpoint_not_taken_now_and_a_bug_is_a_bug(
    tiny_detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Refusing(tmp_path, ConfigError("certificate and key do not match"))
    broker, positions = Broker(StateKeeper(store, Codec("readings", "s1"))), {0: Position(7, 0, 0, 0)}
    checkpoints, metrics = made(tiny_detector, broker, positions)

    before = checkpoints.take([0], timeout_s=30.0)
    store.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        checkpoints.take([0], timeout_s=30.0)
    store.error = None
    after = checkpoints.take([0], timeout_s=30.0)
    checkpoints.close()

    assert (before, after) == (False, True)
    assert counted(metrics, "checkpoint_failures") == 1
    assert "would be reprocessed: certificate and key do not match" in caplog.text


def test_the_commits_name_the_bundle_and_none_where_nothing_is_told_behind_them(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    class Notes(Broker):
        def commit(self, commits: Mapping[int, Commit]) -> None:
            said.append({p: (commit.offset, read_note(commit.note).bundle) for p, commit in commits.items()})

    said: list[dict[int, tuple[int, str | None]]] = []
    positions = {
        0: Position(7, 0, saved_offset=7, committed=7),
        1: Position(9, 0, saved_offset=-1),  # the group has no commit of it yet
        2: Position(9, 0, saved_offset=5, committed=5, told_before=12),  # told up to there by whoever had it
    }
    checkpoints, _ = made(tiny_detector, Notes(keeper_in(tmp_path)), positions)

    checkpoints.name([0, 1, 2], VERSION)
    checkpoints.name([0, 1, 2], VERSION)
    checkpoints.leave([0, 1, 2], timeout_s=1.0)

    assert said == [
        {0: (7, VERSION), 2: (5, VERSION)},
        {1: (9, VERSION), 2: (9, VERSION)},
        {0: (7, None), 1: (9, None)},
    ]


def test_a_broker_that_is_away_is_not_asked_to_name_no_bundle(tiny_detector: Detector, tmp_path: Path) -> None:
    broker = Broker(keeper_in(tmp_path), fails="flush")
    positions: Positions = {0: Position(7, 0, saved_offset=7, committed=7, bundle=VERSION), 1: Position(9, 0, 5, 5)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    checkpoints.take_last(timeout_s=0.1)

    assert [call for call, _ in broker.calls if "commit" in call] == []


def test_a_stop_with_nothing_to_save_does_not_wait_for_a_broker_that_is_known_to_be_away(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    """A commit may wait for the coordinator as long as a session lasts, 45 s."""
    broker = Broker(keeper_in(tmp_path))
    positions: Positions = {0: Position(7, 0, saved_offset=7, committed=7, bundle=VERSION)}
    checkpoints, _ = made(tiny_detector, broker, positions)

    done = checkpoints.take_last(timeout_s=0.1, answers=False)

    assert done
    assert broker.calls == [("flush", None)]
