"""The topic of actions is made where that is granted; else it is said how to make it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from streamer.connectors.incident_store import ActionsTopic, Follower, IncidentStore, SqliteDatabase, acting, following
from streamer.connectors.incident_store.sqlite import MEMORY
from streamer.connectors.kafka import AdminRefused
from streamer.errors import BrokerError
from tests import tiny
from tests.alert_logs import Log, a_life

SETTINGS = tiny.settings()


class Admin:
    """A broker that is asked about topics."""

    def __init__(self, *, refuses: str = "", policy: str = "delete") -> None:
        self.refuses, self.policy = refuses, policy
        self.made: dict[str, tuple[int, Mapping[str, str]]] = {}

    def partitions(self, topic: str) -> int:
        if self.refuses == "describe":
            raise AdminRefused(f"partitions of {topic}: TopicAuthorizationFailedError")
        return self.made[topic][0] if topic in self.made else 0

    def create(self, topic: str, partitions: int, settings: Mapping[str, str]) -> None:
        if self.refuses == "create":
            raise AdminRefused(f"making {topic}: TopicAuthorizationFailedError")
        self.made[topic] = partitions, settings

    def settings(self, topic: str) -> dict[str, str]:
        if self.refuses == "settings":
            raise AdminRefused("DESCRIBE_CONFIGS")
        return {"cleanup.policy": self.policy}

    def close(self) -> None: ...


def topic_on(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> ActionsTopic:
    monkeypatch.setattr(acting, "connect_topic_admin", lambda kafka: admin)
    return ActionsTopic(SETTINGS)


@pytest.mark.parametrize("refuses", ["", "settings"])
def test_it_is_made_to_keep_everything(monkeypatch: pytest.MonkeyPatch, refuses: str) -> None:
    admin = Admin(refuses=refuses)

    topic_on(admin, monkeypatch).prepare()

    partitions, settings = admin.made["readings.actions"]
    assert (partitions, settings["cleanup.policy"], settings["retention.ms"]) == (1, "delete", "-1")


def test_where_it_may_not_be_made_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokerError, match=r"run kafka-topics .* --create --topic readings\.actions --partitions 1"):
        topic_on(Admin(refuses="create"), monkeypatch).prepare()


def test_compaction_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    topic_on(Admin(policy="compact"), monkeypatch).prepare()

    assert "readings.actions is compacted, which loses actions: run kafka-configs" in caplog.text


@pytest.mark.parametrize("admin", [Admin(), Admin(refuses="describe")])
def test_alerts_are_followed_where_the_topic_is_not_there_or_hidden(
    monkeypatch: pytest.MonkeyPatch, admin: Admin
) -> None:
    topic_on(admin, monkeypatch)
    log, store = Log(), IncidentStore(SqliteDatabase(MEMORY))
    log.write(SETTINGS.kafka.alerts_topic, *(alert.encode() for alert in a_life()))
    monkeypatch.setattr(following, "connect_range_reader", lambda kafka, limits: log.connect(kafka.topic))

    Follower(SETTINGS, store).turn()

    assert store.positions(SETTINGS.kafka.alerts_topic) == {0: 3}
