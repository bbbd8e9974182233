"""Faults that are asked for while the simulator runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamer.cli import injecting as cli
from streamer.cli import main
from streamer.errors import BrokerError, DataError
from streamer.offline.injecting import Requests, request
from streamer.offline.machines import FAULT_LENGTH, KINDS, Fault

NAMES = ["machine-1", "machine-2", "machine-3"]


@contextmanager
def watched(folder: Path, number: int = 70) -> Iterator[list[Fault]]:
    """A simulator that looks into the folder until the test is done, and what it was asked for."""
    requests, faults, done, pause = Requests(folder, NAMES), list[Fault](), threading.Event(), threading.Event()

    def look() -> None:
        while not done.is_set():
            faults.extend(requests.take(number))
            pause.wait(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield faults
    finally:
        done.set()
        thread.join()


def test_every_kind_of_fault_can_be_asked_for() -> None:
    assert cli.KINDS == KINDS


def test_a_fault_begins_with_the_next_reading_and_lasts_as_long_as_its_kind_or_as_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with watched(tmp_path / "requests") as faults:
        assert main(["inject", "spike", "machine-3", "--requests", str(tmp_path / "requests")]) == 0
        request(tmp_path / "requests", "stuck", "machine-1", 12)

    assert faults == [Fault("spike", 2, 70, FAULT_LENGTH["spike"]), Fault("stuck", 0, 70, 12)]
    assert capsys.readouterr().out == "fault spike in machine-3, from its next reading on, 4 readings long\n"
    assert list((tmp_path / "requests").iterdir()) == []


def test_a_machine_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with watched(tmp_path) as faults, pytest.raises(DataError, match="wanted a machine of machine-1 to machine-3"):
        request(tmp_path, "spike", "machine-9")
    with watched(tmp_path), pytest.raises(DataError, match="wanted 1 to 1440 readings; got 100000"):
        request(tmp_path, "spike", "machine-1", 100_000)
    assert faults == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"kind": "fire", "machine": "machine-1", "readings": 3}'])
def test_what_is_no_request_is_put_away_and_the_simulator_goes_on(tmp_path: Path, content: bytes) -> None:
    requests = Requests(tmp_path, NAMES)
    (tmp_path / "strange.json").write_bytes(content)

    assert requests.take(5) == []
    assert requests.take(6) == []
    assert not (tmp_path / "strange.json").exists()


def test_a_request_that_no_simulator_takes_is_withdrawn(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no simulator has taken the request"):
        request(tmp_path, "spike", "machine-1", wait_s=0.0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="wanted the folder"):
        request(tmp_path / "elsewhere", "spike", "machine-1")


def test_requests_from_before_the_simulator_started_are_not_carried_out(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_bytes(b'{"kind": "spike", "machine": "machine-1", "readings": 3}')
    assert Requests(tmp_path, NAMES).take(5) == []
