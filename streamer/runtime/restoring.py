"""Taking over the state that snapshots hold: of a partition, or of a topic that is gone.

Not inside: which snapshot the group's commit names, and where reading begins (`partitions`).
"""

from __future__ import annotations

import logging

from models.detector import Detector
from models.errors import ArtifactError
from models.store.registry import Registry
from streamer.core.pipeline import Pipeline
from streamer.errors import StateError
from streamer.observability.metrics import Metrics
from streamer.runtime.intake import moving_over
from streamer.runtime.state.keeper import StateKeeper
from streamer.runtime.state.snapshots import Snapshot

log = logging.getLogger(__name__)


class Restorer:
    """Puts snapshots into a pipeline.

    Args:
        keeper: Has them; None: there are none.
        pipeline: Its state becomes theirs.
        models: Bundles that they were written with.
        metrics: Counts.
        topic: Input topic, for the log.
    """

    def __init__(
        self, keeper: StateKeeper | None, *, pipeline: Pipeline, models: Registry, metrics: Metrics, topic: str
    ) -> None:
        self.kept = keeper is not None  # whether there is ever anything to restore
        self._keeper, self._pipeline, self._models, self._metrics = keeper, pipeline, models, metrics
        self._topic = topic
        self._loaded: dict[str, Detector | ArtifactError] = {}

    def begin(self) -> None:
        """Partitions are assigned; each bundle is loaded once for all of them."""
        self._loaded.clear()

    def restore(self, partition: int, name: str, offsets: range) -> int | None:
        """Offset of the snapshot taken over, or None; it must be one of `offsets`."""
        if self._keeper is None:
            return None
        try:
            snapshot = self._keeper.read(partition, name)
            if snapshot.offset not in offsets:
                where = f"{offsets.start}, where the log begins, and {offsets.stop - 1}"
                raise StateError(f"its offset {snapshot.offset} is not between {where}")
            self._take_over(snapshot)
        except (StateError, ArtifactError) as error:
            self._skip(partition, error)
            return None
        return snapshot.offset

    def left_behind(self, partition: int, topic_id: str) -> tuple[Snapshot | None, tuple[str, ...]]:
        """What was last known of an earlier topic of the same name, and the names of all snapshots of such topics.

        None where what is open there has ended: a snapshot of the topic of now is written after those ends are told.

        Args:
            partition: Which.
            topic_id: Of the topic of now.

        Raises:
            StateUnavailable: The store does not answer.
        """
        gone: list[str] = []
        newest: Snapshot | None = None
        ended = False
        for name in [] if self._keeper is None else self._keeper.store.names(partition):
            assert self._keeper is not None
            try:
                snapshot = self._keeper.read(partition, name)
            except StateError as error:
                self._skip(partition, error)
                continue
            if snapshot.topic_id is None:
                continue  # an earlier version wrote it
            if snapshot.topic_id == topic_id:
                ended = True
            else:
                gone.append(name)
                newest = newest or snapshot
        return None if ended else newest, tuple(gone)

    def take_over(self, partition: int, snapshot: Snapshot) -> bool:
        """Put a snapshot into the pipeline; False if it cannot be used."""
        try:
            self._take_over(snapshot)
        except (StateError, ArtifactError) as error:
            self._skip(partition, error)
            return False
        return True

    def _take_over(self, snapshot: Snapshot) -> None:
        version = str(snapshot.state.values.get("model_version"))
        made_with = None if version == self._pipeline.scorer.version else self._detector(version)
        with moving_over(self._metrics, self._pipeline):
            self._pipeline.restore(snapshot.state, made_with)

    def _detector(self, version: str) -> Detector:
        """Raises `ArtifactError` if the bundle is gone or cannot be trusted."""
        if version not in self._loaded:
            try:
                self._loaded[version] = self._models.load(version)[0]
            except ArtifactError as error:
                self._loaded[version] = error
        found = self._loaded[version]
        if isinstance(found, ArtifactError):
            raise found
        return found

    def _skip(self, partition: int, error: Exception) -> None:
        about = {"topic": self._topic, "partition": partition, "offset": None}
        log.warning("state of partition %d skipped: %s", partition, error, extra=about)
