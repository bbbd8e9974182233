"""The state of partitions, kept and found again: what checkpoints and restores call.

Not inside: where the bytes go (a `StateStore`), the order of flush, snapshot and commit (`runtime.checkpoints`).
"""

from __future__ import annotations

from streamer.config import Settings
from streamer.errors import StateError
from streamer.runtime.state.interface import StateStore
from streamer.runtime.state.local import LocalStore
from streamer.runtime.state.snapshots import Codec, Snapshot, shape_of


class StateKeeper:
    """Snapshots of one topic's partitions in one store.

    Args:
        store: Keeps bytes.
        codec: Makes them.
    """

    def __init__(self, store: StateStore, codec: Codec) -> None:
        self.store, self._codec = store, codec

    def write(self, partition: int, snapshot: Snapshot) -> str:
        """Keep a snapshot; its name, for the commit.

        Raises:
            StateError: It could not be kept.
        """
        return self.store.write(partition, snapshot.offset, self._codec.encode(partition, snapshot))

    def read(self, partition: int, name: str) -> Snapshot:
        """The snapshot of a name.

        Raises:
            StateError: It is gone, damaged, or does not belong to these settings.
        """
        content = self.store.read(partition, name)
        try:
            return self._codec.decode(partition, content)
        except StateError as error:
            raise StateError(f"snapshot {name} of partition {partition}: {error}") from None


def open_keeper(settings: Settings) -> StateKeeper | None:
    """The state of the input topic where the settings say; None without `state.directory`."""
    if settings.state.directory is None:
        return None
    kafka = settings.kafka
    return StateKeeper(
        LocalStore(settings.state.directory, kafka.topic, kafka.group), Codec(kafka.topic, shape_of(settings))
    )
