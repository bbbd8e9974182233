"""A command that runs stops in good order, and at once only when that was asked for twice over."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

# The "checkpoint" takes until a line comes in.
PROGRAM = """
import logging, sys
from streamer.cli.signals import stop_on_signals
logging.basicConfig()
stop = stop_on_signals()
print("runs", flush=True)
stop.wait()
print("stopping", flush=True)
sys.stdin.readline()
print("checkpoint", flush=True)
"""


@contextmanager
def running() -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str], IO[str]]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "runs\n"
            yield process, process.stdin, process.stdout, process.stderr
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("first", "second"),
    [("SIGTERM", "SIGTERM"), ("SIGINT", "SIGTERM"), ("SIGTERM", "SIGINT")],
)
def test_a_second_signal_does_not_cut_the_last_checkpoint(first: str, second: str) -> None:
    with running() as (process, stdin, stdout, stderr):
        process.send_signal(signal.Signals[first])
        assert stdout.readline() == "stopping\n"
        process.send_signal(signal.Signals[second])
        said = stderr.readline()
        stdin.write("\n")
        stdin.flush()

        assert "already stopping, a last checkpoint is taken" in said
        assert stdout.readline() == "checkpoint\n"
        assert process.wait(10) == 0


@pytest.mark.parametrize("signals", [["SIGTERM"] * 3, ["SIGINT"] * 2, ["SIGTERM", "SIGINT", "SIGINT"]])
def test_whoever_insists_is_obeyed_at_once(signals: list[str]) -> None:
    with running() as (process, _, stdout, stderr):
        process.send_signal(signal.Signals[signals[0]])
        assert stdout.readline() == "stopping\n"
        for between in signals[1:-1]:
            process.send_signal(signal.Signals[between])
            assert "already stopping" in stderr.readline()
        process.send_signal(signal.Signals[signals[-1]])

        assert process.wait(10) == -signal.Signals[signals[-1]]
