"""The state of partitions, kept and found again: what checkpoints and restores call.

Not inside: where the bytes go (a `StateStore`), the order of flush, snapshot and commit (`runtime.checkpoints`).
"""

from __future__ import annotations

import time

from streamer.config import Settings
from streamer.errors import BrokerError, StateError
from streamer.observability.metrics import Metrics
from streamer.runtime.state.interface import StateStore
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.objects import ObjectStore
from streamer.runtime.state.snapshots import Codec, Snapshot, shape_of
from streamer.runtime.state.topic import TopicStore


class StateKeeper:
    """Snapshots of one topic's partitions in one store.

    Args:
        store: Keeps bytes.
        codec: Makes them.
        metrics: Sizes and times; None: not counted.
    """

    def __init__(self, store: StateStore, codec: Codec, metrics: Metrics | None = None) -> None:
        self.store, self._codec, self._metrics = store, codec, metrics

    def prepare(self) -> None:
        """See that the store can be used.

        Raises:
            BrokerError: It cannot, or not now.
        """
        try:
            self.store.prepare()
        except StateError as error:
            raise BrokerError(str(error)) from None

    def write(self, partition: int, snapshot: Snapshot) -> str:
        """Keep a snapshot; its name, for the commit.

        Raises:
            StateError: It could not be kept.
        """
        began_s = time.monotonic()
        body = self._codec.encode(partition, snapshot)
        name = self.store.write(partition, snapshot.offset, body)
        if self._metrics is not None:
            self._metrics.state_write_duration.observe(time.monotonic() - began_s)
            self._metrics.state_bytes.observe(sum(map(len, body)))
        return name

    def read(self, partition: int, name: str) -> Snapshot:
        """The snapshot of a name.

        Raises:
            StateError: It is gone, damaged, or does not belong to these settings.
            StateUnavailable: The store does not answer.
        """
        began_s = time.monotonic()
        content = self.store.read(partition, name)
        try:
            snapshot = self._codec.decode(partition, content)
        except StateError as error:
            raise StateError(f"snapshot {name} of partition {partition}: {error}") from None
        if self._metrics is not None:
            self._metrics.state_restore_duration.observe(time.monotonic() - began_s)
        return snapshot

    def close(self) -> None:
        """Let go of connections; the next use makes them again."""
        self.store.close()


def open_store(settings: Settings) -> StateStore | None:
    """The store that `state.store` names; None where nothing is kept.

    Raises:
        ConfigError: A bucket cannot be reached with what the settings and the environment say.
    """
    state, kafka = settings.state, settings.kafka
    if state.folder is not None:
        return LocalStore(state.folder, kafka.topic, kafka.group, shared=state.store != "local")
    if state.store == "topic":
        return TopicStore(kafka, state.topic_for(kafka))
    return None if state.store == "local" else ObjectStore(state.store, kafka.topic, kafka.group)


def open_keeper(settings: Settings, metrics: Metrics | None = None) -> StateKeeper | None:
    """The state of the input topic where the settings say; None where nothing is kept.

    Raises:
        ConfigError: See `open_store`.
    """
    store = open_store(settings)
    return None if store is None else StateKeeper(store, Codec(settings.kafka.topic, shape_of(settings)), metrics)
