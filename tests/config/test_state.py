"""Where state may be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer import config
from streamer.config import Settings
from streamer.errors import ConfigError


def load(tmp_path: Path, **sections: Any) -> Settings:
    path = tmp_path / "streamer.yaml"
    path.write_text(yaml.safe_dump({"records": {"features": ["a"]}} | sections))
    return config.load(path, {})


@pytest.mark.parametrize(
    ("store", "folder"),
    [
        ("local", Path("/var/state")),
        ("topic", None),
        ("s3://bucket/pre/fix", None),
        ("gs://bucket", None),
        ("az://container/prefix/", None),
        ("file:///shared/state", Path("/shared/state")),
    ],
)
def test_state_may_be_kept_in(tmp_path: Path, store: str, folder: Path | None) -> None:
    assert load(tmp_path, state={"store": store, "directory": "/var/state"}).state.folder == folder


@pytest.mark.parametrize(
    "store", ["kafka", "ftp://x/y", "s3://", "s3://key:secret@bucket/x", "file://shared", "s3://b/../c", "gs://b?x=y"]
)
def test_other_places_are_refused_and_a_login_is_not_repeated(tmp_path: Path, store: str) -> None:
    with pytest.raises(ConfigError, match=r"state.store: wanted local, topic or a URL such as s3://bucket") as refused:
        load(tmp_path, state={"store": store})

    assert "secret" not in str(refused.value)


def test_the_topic_is_named_after_the_group_and_has_no_other_use(tmp_path: Path) -> None:
    topic = {"store": "topic"}
    settings = load(tmp_path, state=topic, kafka={"group": "east"})
    assert settings.state.topic_for(settings.kafka) == "east.state"

    with pytest.raises(ConfigError, match=r"state.topic must be set: kafka.group 'a group'"):
        load(tmp_path, state=topic, kafka={"group": "a group"})
    with pytest.raises(ConfigError, match=r"state.topic must be a topic of its own; got readings"):
        load(tmp_path, state=topic | {"topic": "readings"})
