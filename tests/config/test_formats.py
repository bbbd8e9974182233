"""Settings of message formats: what goes together, and where schemas may be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer import config
from streamer.config import Settings
from streamer.errors import ConfigError


def load(tmp_path: Path, environment: dict[str, str] | None = None, **sections: Any) -> Settings:
    path = tmp_path / "streamer.yaml"
    path.write_text(yaml.safe_dump({"records": {"features": ["a"]}} | sections))
    return config.load(path, environment or {})


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({"format": "csv", "readings": "x"}, "every line of csv is a reading already"),
        ({"format": "influx", "readings": "@root"}, "every line of influx is a reading already"),
        ({"readings": "a..b"}, "wanted the name of a field"),
        ({"readings": "p", "features": ["p.a"]}, "wanted 'a'; got 'p.a'"),
        ({"columns": ["a"]}, "are for format csv and tsv"),
        ({"format": "msgpack", "delimiter": ";"}, "are for format csv and tsv"),
        ({"format": "csv", "delimiter": '"'}, "wanted a character that parts cells"),
        ({"format": "csv", "columns": ["stream", "a"]}, "['timestamp']"),
        ({"format": "csv", "columns": ["stream", "timestamp", "a", "a"]}, "each once"),
        ({"format": "xml"}, "'json'"),
    ],
)
def test_settings_of_a_format_that_do_not_go_together_are_refused(tmp_path: Path, records: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, records={"features": ["a"]} | records)

    assert said in str(error.value)


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ({}, "records.format avro needs schema_registry.url"),
        ({"url": "registry:8081"}, "wanted the registry's address, such as https://registry:8081"),
        ({"url": "https://me:secret@registry:8081"}, "a login does not belong in the address"),
        ({"url": "http://registry:8081"}, "is not on loopback and not encrypted"),
        ({"url": "https://registry:8081", "username": "me"}, "username and password go together"),
        ({"url": "https://registry:8081", "password": "secret"}, "STREAMER_SCHEMA_REGISTRY__PASSWORD_FILE"),
    ],
)
def test_a_registry_that_cannot_be_used_safely_is_refused(tmp_path: Path, registry: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, records={"features": ["a"], "format": "avro"}, schema_registry=registry)

    assert said in str(error.value)
    assert "secret@" not in str(error.value)


def test_the_registrys_password_comes_from_a_file_and_its_certificates_lie_beside_the_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    registry = {"url": "https://registry:8081/", "username": "me", "ca_file": "ca.pem"}

    settings = load(
        tmp_path,
        {"STREAMER_SCHEMA_REGISTRY__PASSWORD_FILE": str(tmp_path / "password")},
        records={"features": ["a"], "format": "avro"},
        schema_registry=registry,
    )

    found = settings.schema_registry
    assert found.password is not None
    assert (found.url, found.password.get_secret_value()) == ("https://registry:8081", "hunter2")
    assert found.ca_file == tmp_path / "ca.pem"
    assert "hunter2" not in repr(settings)
