"""The `state` section: where windows and incidents are kept, and how often.

Not inside: the stores (`runtime.state`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from streamer.config.kafka import KafkaConfig
from streamer.config.section import Positive, Section, TopicName

_URL = re.compile(r"(?!.*\.\.)((s3|gs|az)://[A-Za-z0-9._-]+(/[A-Za-z0-9._=-]+)*/?|file:///[^?#/][^?#]*)")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class StateConfig(Section):
    """Snapshots of windows and incidents, from which a restart resumes."""

    store: str = "local"  # local (files in directory, one replica), topic (Kafka), or s3:// gs:// az:// file:// URL
    topic: TopicName | None = None  # of snapshots, with store topic; none: "<group>.state"
    directory: Path | None = Path("state")  # of snapshots, with store local; none: every start is cold
    checkpoint_s: Positive = 5.0  # seconds between checkpoints
    replay_records: Annotated[int, Field(ge=0)] = 20_000  # records per partition, to warm up without a snapshot

    @field_validator("store")
    @classmethod
    def _known(cls, store: str) -> str:
        if store not in ("local", "topic") and not _URL.fullmatch(store):
            got = "something with a login in it" if "@" in store else repr(store)
            raise ValueError(
                "wanted local, topic or a URL such as s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or "
                f"file:///shared/folder; got {got}; logins come from the environment, see docs/state.md"
            )
        return store

    @property
    def folder(self) -> Path | None:
        """The folder of snapshots: a shared one, or that of a single replica; None: they are not kept in files."""
        if self.store.startswith("file://"):
            return Path(self.store.removeprefix("file://"))
        return self.directory if self.store == "local" else None

    def topic_for(self, kafka: KafkaConfig) -> str:
        """The topic of snapshots.

        Raises:
            ValueError: The group's name cannot be part of a topic's, or the topic has another use.
        """
        name = self.topic or f"{kafka.group}.state"
        if not _TOPIC.fullmatch(name):
            raise ValueError(
                f"state.topic must be set: kafka.group {kafka.group!r} followed by .state cannot be the name of a topic"
            )
        if name in (kafka.topic, kafka.alerts_topic, kafka.dlq_topic, kafka.scores_topic):
            raise ValueError(f"state.topic must be a topic of its own; got {name}, which has another use")
        return name
