"""`/incidents` over HTTP: what is asked is checked, what is answered is JSON, and only who may read metrics is told."""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from streamer.config import HttpConfig, Settings
from streamer.connectors.incident_store import Database, IncidentStore, SqliteDatabase, open_to_read
from streamer.connectors.incident_store.interface import Done, Told
from streamer.core.events import OPEN
from streamer.core.incident_life import ACKNOWLEDGE
from streamer.observability.web import Answer, WebServer
from streamer.runtime import incident_pages
from streamer.runtime.incident_pages import IncidentPages
from tests import tiny
from tests.alert_logs import a_life, an_action, an_alert

HOSTILE = "</script><script>alert(1)</script>\r\nSet-Cookie: a=b"
TOKEN = "t" * 43


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of thirty incidents, the newest acknowledged, the one before it with a hostile name."""
    file = tmp_path / "incidents.db"
    store = IncidentStore(SqliteDatabase(file))
    alerts = [alert for n in range(28) for alert in a_life(f"press-{n}", onset=n)]
    alerts += [an_alert(OPEN, 200, stream=HOSTILE), an_alert(OPEN, 300, stream="pump")]
    store.take_alerts([Told(alert, alert.encode(), 1) for alert in alerts], "alerts", 0, len(alerts))
    store.take_actions([Done(an_action(an_alert(stream="pump").incident_id, ACKNOWLEDGE, 1), 0, 1)], "actions", 0, 1)
    store.close()
    return file


def serve(path: Path | None, **config: Any) -> WebServer:
    settings = tiny.settings(incidents={"store": f"sqlite:{path}"})
    return WebServer(
        HttpConfig(port=0, **config),
        metrics=lambda environ, start: [],
        healthy=lambda: None,
        ready=lambda: None,
        incidents=None if path is None else IncidentPages(settings),
    )


@pytest.fixture
def address(path: Path) -> Iterator[str]:
    server = serve(path)
    yield server.address
    server.close()


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
    """Status, content and headers."""
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null"), answer.headers
    except urllib.error.HTTPError as error:
        content = error.read()
        as_json = error.headers["Content-Type"] == "application/json"
        return error.code, json.loads(content) if as_json else content.decode(), error.headers


def test_the_list_is_that_of_the_store_page_by_page(address: str) -> None:
    _, whole, headers = get(f"{address}/incidents")
    found, query = list[Any](), "?limit=7"
    while True:
        _, page, _ = get(f"{address}/incidents{query}")
        found += page["incidents"]
        if page["next"] is None:
            break
        query = f"?limit=7&cursor={page['next']}"

    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("application/json", "nosniff")
    assert len(found) == 30
    assert found == whole["incidents"]
    assert (found[0]["stream"], found[0]["acknowledged_by"], found[0]["state"]) == ("pump", "anna", "open")


@pytest.mark.parametrize(
    ("query", "streams"),
    [
        ({"stream": "press-1?", "limit": 3}, ["press-19", "press-18", "press-17"]),
        ({"open": "true"}, ["pump", HOSTILE]),
        ({"kind": "silence"}, []),
        ({"since": an_alert(minute=67).time}, ["pump", HOSTILE, "press-27"]),
        ({"stream": "' OR 1=1 --"}, []),
    ],
)
def test_what_is_wanted_is_what_comes(address: str, query: dict[str, Any], streams: list[str]) -> None:
    status, page, _ = get(f"{address}/incidents?{urlencode(query)}")

    assert (status, [each["stream"] for each in page["incidents"]]) == (200, streams)


def test_one_incident_comes_with_its_history(address: str) -> None:
    incident = an_alert(stream="press-3", onset=3).incident_id

    _, whole, _ = get(f"{address}/incidents/{incident}")
    _, short, _ = get(f"{address}/incidents/{incident[:10]}")

    assert whole == short
    assert whole["incident"]["incident_id"] == incident
    assert [moment["alert"]["event"] for moment in whole["timeline"]] == ["open", "update", "resolve"]


def test_a_hostile_name_stays_inside_the_json(address: str) -> None:
    _, page, headers = get(f"{address}/incidents?{urlencode({'stream': HOSTILE})}")

    assert [each["stream"] for each in page["incidents"]] == [HOSTILE]
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    ("question", "status", "words"),
    [
        ("?limit=0", 400, "limit: wanted"),
        ("?limit=201", 400, "limit: wanted"),
        ("?limit=%D9%A3", 400, "limit: wanted"),
        ("?open=yes", 400, "open: wanted true or false"),
        ("?kind=odd", 400, "kind: wanted one of anomaly"),
        ("?since=soon", 400, "since: wanted a time"),
        ("?cursor=1", 400, "cursor: wanted"),
        ("?limit=5&limit=6", 400, "once at most"),
        ("?colour=red", 400, "once at most"),
        ("?" + "&".join(["open=true"] * 50), 400, "wanted parameters"),
        ("?open", 400, "wanted parameters"),
        (f"?stream={'*' * 300}", 400, "at most 256"),
        ("/ffffffffffffffffffffffffffffffff", 404, "no such incident"),
        ("/%27%20OR", 400, "wanted the id"),
        ("/a/b", 400, "wanted the id"),
        ("/" + quote("../../etc/passwd", safe=""), 400, "wanted the id"),
    ],
)
def test_a_wrong_question_is_answered_with_what_was_wanted(
    address: str, question: str, status: int, words: str
) -> None:
    code, said, _ = get(f"{address}/incidents{question}")

    assert (code, words in said["error"]) == (status, True), said


def test_nothing_can_be_changed_over_http(address: str) -> None:
    assert [get(f"{address}/incidents", method)[0] for method in ("POST", "PUT", "DELETE")] == [405, 405, 405]


def test_without_a_login_nothing_is_told(path: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "auth.yaml"
    secrets.write_text(json.dumps({"bearer_tokens": {"page": hashlib.sha256(TOKEN.encode()).hexdigest()}}))
    server = serve(path, auth_file=secrets)
    try:
        nobody = get(f"{server.address}/incidents")
        wrong = get(f"{server.address}/incidents/ab", Authorization="Bearer no")
        known = get(f"{server.address}/incidents", Authorization=f"Bearer {TOKEN}")
    finally:
        server.close()

    assert (nobody[0], wrong[0], known[0]) == (401, 401, 200)
    assert "press" not in str(nobody[1]) + str(wrong[1])


def test_a_store_that_is_not_there_yet_is_said(tmp_path: Path) -> None:
    server, none = serve(tmp_path / "none.db"), serve(None)
    try:
        status, said, _ = get(f"{server.address}/incidents")
        without, _, _ = get(f"{none.address}/incidents")
    finally:
        server.close()
        none.close()

    assert (status, "the store of incidents cannot be asked" in said["error"]) == (503, True)
    assert without == 404


def test_while_a_database_hangs_others_are_sent_away_and_answered_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(settings: Settings) -> Database:
        hangs.set()
        assert goes_on.wait(60)
        return open_to_read(settings)

    monkeypatch.setattr(incident_pages, "open_to_read", hang)
    monkeypatch.setattr(incident_pages, "WAIT_S", 0.05)
    pages, answers = IncidentPages(tiny.settings(incidents={"store": f"sqlite:{path}"})), list[Answer]()
    first = threading.Thread(target=lambda: answers.append(pages("", "")), daemon=True)
    first.start()
    assert hangs.wait(60)

    second = threading.Thread(target=lambda: answers.append(pages("", "")), daemon=True)
    second.start()
    second.join(60)
    sent_away = [status for status, _ in answers]
    goes_on.set()
    first.join(60)

    assert sent_away == ["503 Service Unavailable"]
    assert answers[1][0] == pages("", "")[0] == "200 OK"
