"""A real Alertmanager shows the incident: same id, words and severity, until it resolves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streamer.config.sinks import AlertmanagerConfig
from streamer.connectors.alert_sinks import Incident
from streamer.connectors.alert_sinks.alertmanager import AlertmanagerSink
from tests.sample_alerts import HOSTILE, sample_alert

START_S = 60.0


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = os.environ.get("ALERTMANAGER") or shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if program is None:
        pytest.skip("alertmanager is neither in ALERTMANAGER nor on PATH (Debian: apt install prometheus-alertmanager)")
    directory: Path = tmp_path_factory.mktemp("alertmanager")
    shipped = Path(__file__).parents[3] / "deploy" / "alertmanager" / "alertmanager.yml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        program, f"--config.file={shipped}", f"--storage.path={directory}", "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    url, process = f"http://127.0.0.1:{port}", subprocess.Popen(command)
    try:
        deadline_s, pause = time.monotonic() + START_S, threading.Event()
        while not is_ready(url):
            assert process.poll() is None, "alertmanager has ended"
            assert time.monotonic() < deadline_s, "alertmanager does not answer"
            pause.wait(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def shown(url: str, **wanted: str) -> list[dict[str, Any]]:
    """Alerts that are active, inhibited ones too."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=30) as answer:
        alerts: list[dict[str, Any]] = json.load(answer)
    return [alert for alert in alerts if wanted.items() <= alert["labels"].items()]


def until(url: str, count: int, state: str | None = None, **wanted: str) -> list[dict[str, Any]]:
    """The alerts as soon as there are so many (in that state); what it says the last time if there never are."""
    deadline_s, pause = time.monotonic() + 60, threading.Event()
    while True:
        found = shown(url, **wanted)
        if len([one for one in found if state in (None, one["status"]["state"])]) == count:
            return found
        if time.monotonic() > deadline_s:
            return found
        pause.wait(0.05)


def test_an_incident_is_shown_grows_worse_and_resolves(alertmanager: str) -> None:
    sink = AlertmanagerSink("ops", AlertmanagerConfig(url=alertmanager), topic="machines", runbook_url=None)
    now_s = time.time()
    onset = datetime.fromtimestamp(now_s - 300, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    about: dict[str, Any] = {"stream": HOSTILE, "onset": onset}
    opened, worse, over = (
        sample_alert(severity="warning", **about),
        sample_alert("update", severity="critical", at_s=120, **about),
        sample_alert("resolve", severity="critical", at_s=600, **about),
    )
    one = {"incident_id": opened.incident_id}

    first = sink.deliver(Incident(opened, ("warning",), now_s), now_s)
    (alert,) = until(alertmanager, 1, "active", **one)
    sink.deliver(Incident(worse, ("warning", "critical"), now_s), now_s)
    grown = until(alertmanager, 1, "suppressed", **one)
    sink.deliver(Incident(over, ("warning", "critical"), now_s), time.time())
    left = until(alertmanager, 0, **one)

    assert first.outcome == "delivered"
    assert alert["labels"]["severity"] == "warning"
    assert alert["labels"]["stream"] == HOSTILE
    assert alert["annotations"]["summary"] == opened.summary
    assert alert["startsAt"].startswith(onset.rstrip("Z"))
    # Of two alerts about one incident, the shipped configuration shows the worse.
    assert {one["labels"]["severity"]: one["status"]["state"] for one in grown} == {
        "warning": "suppressed", "critical": "active"
    }  # fmt: skip
    assert left == []
    assert "answers" in sink.prove()


def test_alerts_of_a_daemon_that_is_dead_expire(alertmanager: str) -> None:
    sink = AlertmanagerSink(
        "ops", AlertmanagerConfig(url=alertmanager, resend_s=60), topic="machines", runbook_url=None
    )
    alert = sample_alert(stream="dead")
    now_s = time.time() - 239  # so long ago that a second is left

    answer = sink.deliver(Incident(alert, ("warning",), now_s), now_s)
    left = until(alertmanager, 0, stream="dead")

    assert answer.outcome == "delivered"
    assert left == []
