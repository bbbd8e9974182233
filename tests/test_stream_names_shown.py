"""A stream's name forges nothing, wherever it is shown: metrics, logs, alerts, keys, links, pages, files."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors import files
from streamer.connectors.files import DataSet
from streamer.core import alerts
from streamer.core.events import ANOMALY, OPEN, Event
from streamer.core.keyed_state import KeyedState
from streamer.core.stream_names import valid_stream_name
from streamer.formats import decoder_of
from streamer.observability.logs import JsonFormatter
from streamer.observability.metrics import Metrics
from streamer.offline import backtest, replay
from tests import tiny
from tests.messages import batch
from tests.observability.test_metrics import scrape, series, view

NAMES = [
    "two words",
    "Überdruck 泵 🏭",
    'a"b',
    "back\\slash\\n",
    'x"} 1 2\\n# HELP {y="z',
    "<script>alert(1)</script>",
    "\" onload='alert(1)'",
    "{{ 7 * 7 }}{% raw %}",
    "$\\frac{$ %s %(name)s",
    "a&var-stream=b#c?d=e+f%20g",
    "../../etc/passwd",
    "=1+1",
]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    assert valid_stream_name(request.param)
    return str(request.param)


def an_alert(name: str) -> alerts.Alert:
    event = Event(OPEN, ANOMALY, 0, tiny.START_NS, tiny.START_NS, 2.0, 2.0, 0)
    return alerts.build(
        event,
        topic="readings",
        stream=name,
        attributions=[alerts.Attribution("heat", 1.0, 2.0, 3.0)],
        model_version=tiny.VERSION,
        dashboard_url="http://127.0.0.1:3000/d/streamer-stream",
    )


def test_a_name_is_one_label_of_one_series(name: str) -> None:
    parts = (alerts.Attribution("heat", 1.0, 2.0, 3.0),)

    found = series(scrape(Metrics(CollectorRegistry(), lambda: [view(name, parts)])))
    plain = series(scrape(Metrics(CollectorRegistry(), lambda: [view("plain", parts)])))

    shown = {dict(labels)["stream"] for _, labels in found if "stream" in dict(labels)}
    assert shown == {name}
    assert len(found) == len(plain)


def test_a_name_stands_in_an_alert_as_it_was_sent(name: str) -> None:
    encoded = an_alert(name).encode()

    assert json.loads(encoded)["stream"] == name
    assert len(encoded.splitlines()) == 1


def test_the_link_to_the_dashboard_carries_the_name_and_nothing_more(name: str) -> None:
    link = an_alert(name).dashboard or ""

    query = parse_qs(urlsplit(link).query, strict_parsing=True)
    assert query["var-stream"] == [name]
    assert query.keys() == parse_qs(urlsplit(an_alert("plain").dashboard or "").query).keys()
    assert not urlsplit(link).fragment


def test_an_alert_is_one_line_of_the_log(name: str) -> None:
    record = logging.makeLogRecord({"msg": "%s: %s", "args": ("open", an_alert(name).summary)})

    assert len(record.getMessage().splitlines()) == 1
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert name in json.loads(line)["message"]


@pytest.mark.parametrize("stream", ["stream", "@key"])
def test_a_name_survives_being_sent_and_read(name: str, stream: str) -> None:
    settings = tiny.settings(records={"stream": stream})
    [(key, value)] = replay.encode(
        DataSet([name], np.zeros(1, np.int64), np.array([tiny.START_NS]), np.ones((1, 2))), settings
    )
    streams = KeyedState()

    decoded = decoder_of(settings.format_options(), streams).decode(batch([value], [key]))

    assert decoded.rejects == []
    assert streams.names == [name]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_name_survives_a_file(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{suffix}"
    frame = pd.DataFrame({"timestamp": ["2024-01-01"], "stream": [name], "heat": [1.0], "current": [2.0]})
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)

    assert files.load([path], tiny.settings().records).names == [name]


def test_names_do_no_harm_in_the_report_and_the_files_of_a_backtest(tiny_detector: Detector, tmp_path: Path) -> None:
    names, rows = [*NAMES[1:2], *NAMES[5:9]], 120
    values = np.stack([tiny.wave(rows, seed=i) for i in range(len(names))], 1).reshape(-1, 2).astype(np.float64)
    values[80 * len(names) : 100 * len(names), 1] += 8  # a fault in every stream
    times = tiny.START_NS + np.repeat(np.arange(rows), len(names)) * tiny.MINUTE_NS
    data = DataSet(names, np.tile(np.arange(len(names)), rows), times, values)
    settings = tiny.settings()
    result = backtest.run(settings, tiny_detector, tiny.VERSION, data)
    assert {alert.stream for alert in result.alerts} == set(names)

    backtest.write(result, settings, tiny_detector, tiny.VERSION, tmp_path)

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&#34; onload=&#39;" in page
    assert "{{ 7 * 7 }}" in page
    assert set(pd.read_csv(tmp_path / "scores.csv")["stream"]) == set(names)
    told = (tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["stream"] for line in told] == [alert.stream for alert in result.alerts]
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}
