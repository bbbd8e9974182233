"""One log record is one line, whatever a message holds; JSON lines carry what they are about as fields."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import LogConfig
from streamer.observability.logs import FIELDS, AtMost, JsonFormatter, TextFormatter, configure

FORGED = 'press\n12:00:00 INFO    all is well\r\x1b[2J\u2028\x85\u202e{"level": "INFO"}'


def record(message: str, *args: object, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("streamer.x").makeRecord(
        "streamer.x", logging.WARNING, "x.py", 1, message, args, None, extra=extra
    )


def test_a_json_line_carries_stream_and_incident_as_fields() -> None:
    line = json.loads(
        JsonFormatter().format(
            record(
                "open %s: %s", "1a2b3c4d", "press 2 has been anomalous",
                stream="press 2", incident_id="1a2b3c4d5e6f", partition=np.int64(3), offset=np.int64(17),
                topic="readings", model_version="v1", colour="red",
            )
        )
    )  # fmt: skip

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "streamer.x",
        "message": "open 1a2b3c4d: press 2 has been anomalous",
        "stream": "press 2",
        "incident_id": "1a2b3c4d5e6f",
        "partition": 3,
        "offset": 17,
        "topic": "readings",
        "model_version": "v1",
    }


def test_a_line_about_nothing_in_particular_has_no_such_fields() -> None:
    line = json.loads(JsonFormatter().format(record("ready")))

    assert not set(line) & set(FIELDS)


def test_text_stays_a_sentence() -> None:
    text = TextFormatter().format(record("Öfen 1 → 30 °C", stream="Öfen 1"))

    assert text[8:] == " WARNING Öfen 1 → 30 °C"


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@given(text=st.text() | st.just(FORGED))
def test_nothing_in_a_message_or_a_field_can_begin_a_line_or_act_on_a_terminal(
    formatter: logging.Formatter, text: str
) -> None:
    line = formatter.format(record("stream %s is silent", text, stream=text))

    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()
    if isinstance(formatter, JsonFormatter):
        assert json.loads(line)["stream"] == text
        assert json.loads(line)["message"] == f"stream {text} is silent"


def test_lines_of_a_traceback_do_not_look_like_log_lines() -> None:
    failed = record("it failed")
    try:
        raise ValueError(FORGED)
    except ValueError:
        failed.exc_info = sys.exc_info()

    text = TextFormatter().format(failed)
    line = JsonFormatter().format(failed)

    assert all(row.startswith("    ") for row in text.split("\n")[1:])
    assert all(row.isprintable() for row in text.split("\n"))
    assert len(line.splitlines()) == 1
    assert FORGED in json.loads(line)["exception"]


def test_a_chatty_library_does_not_drown_what_is_said_of_the_fault() -> None:
    def line(name: str, created: float) -> logging.LogRecord:
        made = logging.LogRecord(name, logging.ERROR, "x.py", 1, "connection lost", None, None)
        made.created = created
        return made

    few = AtMost("kafka", 2, 60.0)

    assert [few.filter(line("kafka.conn", at)) for at in (100.0, 101.0, 102.0, 159.0, 161.0, 162.0)] == [
        True, True, False, False, True, True,
    ]  # fmt: skip
    assert all(few.filter(line("streamer.runtime.readiness", 163.0)) for _ in range(5))


@pytest.mark.parametrize("client", ["kafka.conn", "confluent_kafka"])
def test_errors_that_a_client_repeats_while_a_broker_is_away_are_few_lines(
    client: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        configure(LogConfig())
        for _ in range(1000):
            logging.getLogger(client).error("connection refused")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    assert 0 < capsys.readouterr().err.count("connection refused") < 20
