"""Long work says how far it is and how long it will take."""

from __future__ import annotations

import io
import logging

import pytest

from streamer.offline import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(title: str = "training, epochs", *, seconds_a_step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four epochs of two steps each, after a minute of preparation."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with progress.progress(title, 4) as advance:
        clock[0] += 60
        for step in range(8):
            clock[0] += seconds_a_step
            advance(0.5)
            if step % 2:
                advance(0, f"held-out loss {step}")


def test_log_lines_tell_what_is_done_what_is_left_and_the_newest_note(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    work(seconds_a_step=6, monkeypatch=monkeypatch)

    # preparation is no measure of the steps: 12 s an epoch
    assert caplog.messages == [
        "training, epochs: 1 of 4, about 36 s left",
        "training, epochs: 2 of 4, about 24 s left; held-out loss 1",
        "training, epochs: 3 of 4, about 12 s left; held-out loss 3",
        "training, epochs: 4 of 4, about 0 s left; held-out loss 5",
    ]


def test_short_work_leaves_no_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    with progress.progress("replay", 2) as advance:
        for _ in range(2):
            clock[0] += 4
            advance(1)

    assert caplog.messages == []


def test_a_terminal_gets_a_bar_with_epochs_note_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")

    with progress.progress("training, epochs", 4) as advance:
        for _ in range(8):
            advance(0.5, "held-out loss 0.0123 *")

    shown = terminal.getvalue()
    assert "4/4" in shown
    assert "held-out loss 0.0123 *" in shown
    assert "0:00:0" in shown


def test_what_is_not_to_be_shown_is_silent(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress("training", 1, shown=False) as advance:
        advance(1, "note")

    assert (caplog.messages, capsys.readouterr().err) == ([], "")
