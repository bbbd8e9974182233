"""The `incidents` section: where the store is, and which topic is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import ConfigError
from tests.config.test_state import load


def test_without_it_nothing_is_kept_and_the_topic_is_named_after_the_input(tmp_path: Path) -> None:
    settings = load(tmp_path, kafka={"topic": "pumps"})

    assert (settings.incidents_file, settings.actions_topic) == (None, "pumps.actions")


@pytest.mark.parametrize(
    ("store", "file"), [("sqlite:incidents.db", "state/incidents.db"), ("sqlite:/var/lib/i.db", "/var/lib/i.db")]
)
def test_a_file_is_relative_to_the_directory_of_the_state(tmp_path: Path, store: str, file: str) -> None:
    assert load(tmp_path, incidents={"store": store}).incidents_file == tmp_path / file


@pytest.mark.parametrize(
    "store", ["incidents.db", "sqlite:", "sqlite:/", "mysql://anna:secret@db/x", "postgresql://anna:secret@db/x"]
)
def test_other_stores_are_refused_and_a_login_is_not_repeated(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigError, match=r"incidents.store: wanted sqlite:PATH or postgresql:") as refused:
        load(tmp_path, incidents={"store": store})

    assert "secret" not in str(refused.value)


def test_a_relative_file_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"incidents.store: wanted sqlite:/PATH, as there is no state.directory"):
        load(tmp_path, incidents={"store": "sqlite:incidents.db"}, state={"directory": None})


@pytest.mark.parametrize("topic", ["readings", "streamer.alerts", "readings.dlq"])
def test_the_topic_of_actions_has_no_other_use(tmp_path: Path, topic: str) -> None:
    with pytest.raises(ConfigError, match=r"incidents.actions_topic must be a topic of its own"):
        load(tmp_path, incidents={"actions_topic": topic})


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://streamer@127.0.0.1/incidents",
        "postgresql://[::1]:5433/incidents",
        "postgresql://streamer@db.example.com/incidents?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ],
)
def test_a_server_may_be_named(tmp_path: Path, store: str) -> None:
    incidents = load(tmp_path, incidents={"store": store}).incidents

    assert (incidents.url, incidents.path) == (store, None)


@pytest.mark.parametrize(
    "store",
    [
        "postgresql://anna:secret@db/x",
        "postgresql://db",
        "postgresql:///x",
        "postgresql://db:port/x",
        "postgresql://db/x?password=secret",
        "postgresql://db/x?options=-c%20search_path%3Dother",
        "postgresql://db/x#secret",
    ],
)
def test_a_server_is_named_without_password_and_with_few_options(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigError, match=r"incidents.store: wanted sqlite:PATH or postgresql:"):
        load(tmp_path, incidents={"store": store})


def test_a_server_elsewhere_wants_encryption(tmp_path: Path) -> None:
    store = "postgresql://streamer@db.example.com/incidents?sslmode=prefer"

    with pytest.raises(ConfigError, match=r"incidents.store is not on loopback and not encrypted"):
        load(tmp_path, incidents={"store": store})

    assert load(tmp_path, incidents={"store": store}, kafka={"allow_insecure": True}).incidents.url == store


def test_a_password_does_not_stand_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"STREAMER_INCIDENTS__PASSWORD_FILE") as refused:
        load(tmp_path, incidents={"password": "hunter2"})

    assert "hunter2" not in str(refused.value)
