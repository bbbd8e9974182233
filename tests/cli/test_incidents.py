"""`streamer incidents` against a broker: without a store it reads the topics, with one it asks the file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from kafka.record.default_records import DefaultRecordBatch

from streamer import cli
from streamer.cli import checking
from streamer.config import KafkaConfig, load
from streamer.connectors.incident_store import Follower, IncidentStore, SqliteDatabase
from streamer.core.alerts import Alert
from streamer.core.events import OPEN
from tests.alert_logs import a_life, an_alert
from tests.brokers import Broker, config_for, consume, produce

pytestmark = pytest.mark.usefixtures("keep_logging")
Captured = pytest.CaptureFixture[str]
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e\n12:00:00 forged"


class Site:
    """A topic of alerts, and the file that names it."""

    def __init__(self, broker: Broker, folder: Path, client: str) -> None:
        self.broker, self.folder = broker, folder
        self.kafka: KafkaConfig = config_for(broker, client=client)
        self.file = folder / "streamer.yaml"
        self.configure()
        broker.create_topic(self.kafka.topic, 1)
        broker.create_topic(self.kafka.alerts_topic, 2)

    def configure(self, **incidents: Any) -> None:
        kafka = self.kafka.model_dump(mode="json", exclude_unset=True)
        sections = {"kafka": kafka, "records": {"features": ["heat"]}, "incidents": incidents}
        self.file.write_text(json.dumps(sections))

    def tell(self, *alerts: Alert) -> None:
        messages = [{"key": alert.stream.encode(), "value": alert.encode()} for alert in alerts]
        produce(self.broker, self.kafka.alerts_topic, messages)

    def run(self, *arguments: str) -> int:
        return cli.main(["incidents", *arguments, "--config", str(self.file)])

    def follow(self) -> None:
        """What the daemon's thread does."""
        settings = load(self.file, {})
        assert settings.incidents_file is not None
        store = IncidentStore(SqliteDatabase(settings.incidents_file))
        follower = Follower(settings, store)
        follower.turn()
        follower.close()
        store.close()


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> Site:
    return Site(broker, tmp_path, "kafka-python")


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_incidents_are_listed_shown_and_judged_without_a_store(
    broker: Broker, tmp_path: Path, capsys: Captured, client: str
) -> None:
    site = Site(broker, tmp_path, client)
    site.tell(*a_life("press-1"), an_alert(OPEN, 60, stream="press-2", onset=50, peak_score=3.5))
    open_id = an_alert(stream="press-2", onset=50).incident_id

    assert site.run("list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert site.run("list", "--open", "--json", "--stream", "press-*", "--kind", "anomaly") == 0
    told = json.loads(capsys.readouterr().out)
    assert site.run("ack", open_id[:6], "looking at it", "--by", "anna") == 0
    assert site.run("false-alarm", open_id, "--by", "bob") == 0
    assert site.run("comment", open_id, "sensor 7", "--by", "bob") == 0
    assert site.run("undo", open_id, "--by", "bob") == 0
    assert "undone by bob" in capsys.readouterr().out
    assert site.run("show", open_id[:6]) == 0
    shown = capsys.readouterr().out
    assert site.run("show", open_id, "--json") == 0
    whole = json.loads(capsys.readouterr().out)

    assert listed[0].startswith(open_id[:8])
    assert re.search(r"open +critical +anomaly +press-2", listed[0])
    assert listed[1] == "    press-2: open after 60 min"
    assert re.search(r"resolved +critical +anomaly +press-1", listed[2])
    assert [each["incident_id"] for each in told["incidents"]] == [open_id]
    assert (told["more"], told["incidents"][0]["state"]) == (False, "open")
    for line in (
        "heat       75%         80.5        61.25  58 to 64.5",
        "acknowledged by anna: looking at it",
        "comment added by bob",
    ):
        assert line in shown
    assert (whole["incident"]["acknowledged_by"], whole["incident"]["verdict"]) == ("anna", None)
    kinds = [next(kind for kind in ("alert", "action") if kind in moment) for moment in whole["timeline"]]
    assert kinds == ["alert", "action", "action", "action", "action"]


def test_a_damaged_record_is_left_out_and_the_others_are_listed(
    site: Site, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("press-1", "press-2", "press-3"):
        produce(
            site.broker,
            site.kafka.alerts_topic,
            [{"partition": 0, "value": an_alert(OPEN, 3, stream=stream).encode()}],
        )
    sound = DefaultRecordBatch.validate_crc
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda self: self.base_offset != 1 and sound(self))

    assert site.run("list") == 0

    said = capsys.readouterr()
    assert sorted(re.findall(r"anomaly +(press-\d)", said.out)) == ["press-1", "press-3"]
    assert "left out, as it cannot be read" in said.err


def test_what_is_done_is_on_the_topic_of_actions_keyed_by_the_incident(site: Site, capsys: Captured) -> None:
    site.tell(an_alert(OPEN, 3))
    site.configure(actions_topic=f"{site.kafka.topic}.done")

    assert site.run("expected", an_alert().incident_id, "planned work", "--by", "anna") == 0

    (record,) = consume(site.broker, f"{site.kafka.topic}.done", 1)
    said = json.loads(record.value)
    assert record.key.decode() == said["incident_id"] == an_alert().incident_id
    assert (said["action"], said["who"], said["text"]) == ("expected", "anna", "planned work")
    assert re.fullmatch(r"[0-9a-f]{32}", said["action_id"])


def test_a_store_answers_where_there_is_one(site: Site, capsys: Captured) -> None:
    site.configure(store="sqlite:incidents.db")
    site.tell(an_alert(OPEN, 3, stream="press-1"))
    assert site.run("list") == 0  # no daemon has made it yet: the topics answer
    assert "press-1" in capsys.readouterr().out
    site.follow()
    site.tell(an_alert(OPEN, 4, stream="press-2"))

    assert site.run("list") == 0
    before = capsys.readouterr().out
    assert site.run("ack", an_alert(stream="press-1").incident_id, "--by", "anna") == 0
    site.follow()
    capsys.readouterr()
    assert site.run("list") == 0
    after = capsys.readouterr().out

    assert (site.folder / "state" / "incidents.db").exists()
    assert "press-2" not in before
    assert re.search(r"press-1  acknowledged by anna", after)
    assert "press-2" in after


def test_nothing_reaches_the_terminal_as_a_control_character(site: Site, capsys: Captured) -> None:
    features = json.loads(an_alert().encode())["features"]
    hostile = json.loads(an_alert(OPEN, 3).encode()) | {
        "stream": ESCAPES,
        "kind": ESCAPES,
        "severity": ESCAPES,
        "summary": ESCAPES,
        "model_version": ESCAPES,
        "dashboard": ESCAPES,
        "scope": ESCAPES,
        "features": [features[0] | {"name": ESCAPES}],
    }
    produce(site.broker, site.kafka.alerts_topic, [{"value": json.dumps(hostile).encode()}])
    incident = an_alert().incident_id

    assert site.run("comment", incident, ESCAPES, "--by", ESCAPES) == 0
    assert site.run("list") == 0
    assert site.run("list", "--json") == 0
    assert site.run("show", incident) == 0
    assert site.run("show", incident, "--json") == 0

    out = capsys.readouterr().out
    assert [character for character in out if not character.isprintable() and character != "\n"] == []
    assert not [line for line in out.splitlines() if line.startswith("12:00:00")]


WRONG = [
    (["show", "0000"], 65, "0000: no such incident"),
    (["show", "';--"], 64, "wanted the id of an incident"),
    (["ack", "%"], 64, "wanted the id of an incident"),
    (["undo", "{id}"], 64, "nothing to undo"),
    (["comment", "{id}", "x" * 3000, "--by", "anna"], 64, "at most 2000"),
    (["comment", "{id}", "\udcff", "--by", "anna"], 64, "wanted UTF-8"),
    (["ack", "{id}", "--by", ""], 64, "wanted a name"),
    (["list", "--since", "soon"], 64, "--since"),
]


def test_what_cannot_be_done_is_said(site: Site, capsys: Captured) -> None:
    site.configure(store="sqlite:incidents.db")
    site.tell(an_alert(OPEN, 3))
    site.follow()

    for arguments, code, words in WRONG:
        assert site.run(*(each.format(id=an_alert().incident_id) for each in arguments)) == code, arguments
        assert words in capsys.readouterr().err


def test_check_says_whether_the_store_can_be_kept(site: Site, capsys: Captured) -> None:
    site.configure(store="sqlite:incidents.db")
    settings = load(site.file, {})

    checking._check_incidents(settings)
    before = capsys.readouterr().out
    site.follow()
    checking._check_incidents(settings)
    after = capsys.readouterr().out

    assert "the store of incidents holds nothing yet" in before
    assert f"topic {site.kafka.topic}.actions" in before
    assert "ok    the store of incidents can be read" in after


def test_a_beginning_that_several_share_is_not_enough(broker: Broker, tmp_path: Path, capsys: Captured) -> None:
    site = Site(broker, tmp_path, "kafka-python")
    site.tell(an_alert(OPEN, 3, incident_id="a" * 32), an_alert(OPEN, 4, incident_id="a" * 31 + "b"))

    assert site.run("show", "aa") == 64

    assert "several incidents begin so" in capsys.readouterr().err


def test_a_broker_without_alerts_exits_69(broker: Broker, tmp_path: Path, capsys: Captured) -> None:
    site = Site(broker, tmp_path, "kafka-python")
    site.kafka = site.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:1", "probe_timeout_s": 2.0})
    site.configure()

    assert site.run("list") == 69
    assert "127.0.0.1:1" in capsys.readouterr().err
