"""What is remembered of streams leaves a process and comes to another one.

`Pipeline` is made of it. Not inside: which streams there are and what is remembered of them (`keyed_state`), how it is
stored (`runtime.state`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from models.detector import Detector
from streamer.core.grouping import Ints
from streamer.core.keyed_state import ExportedState, KeyedState
from streamer.core.scoring import Scorer
from streamer.errors import StateError


class Portable:
    """Exports, restores and forgets streams."""

    keys: KeyedState
    scorer: Scorer

    def export(self, streams: Iterable[str]) -> ExportedState:
        """Everything remembered of some streams, and of the partitions they are in.

        Raises:
            KeyError: A stream is not known.
        """
        return self._exported(np.array([self.keys.codes[name] for name in streams], np.int64))

    def export_partition(self, partition: int) -> ExportedState:
        """`export` of all streams that a partition owns, and of the partition itself even if there are none."""
        return self._exported(self.keys.streams_of(partition), partition)

    def _exported(self, codes: Ints, *partitions: int) -> ExportedState:
        state = self.keys.export(codes, partitions)
        state.values["model_version"] = self.scorer.version
        return state

    def restore(self, state: ExportedState, made_with: Detector | None = None) -> None:
        """Take over streams that `export` gave.

        Args:
            state: What to take over.
            made_with: The detector of `state.values["model_version"]`, if it is not the one in use:
                windows are rescaled to the current detector, what it learned of drift and its scores are dropped.

        Raises:
            StateError: It was exported with another detector than given, or does not fit; nothing of it is kept.
        """
        theirs = state.values.get("model_version")
        columns = state.columns
        leave_out: tuple[str, ...] = ()
        try:
            if theirs != self.scorer.version:
                if made_with is None:
                    raise StateError(f"the snapshot is of model {theirs}, the one in use is {self.scorer.version}")
                newest = self.scorer.rescaled(columns["windows.newest"], state.values["streams"], made_with)
                # As after a swap: scores of another detector settle nothing.
                columns, leave_out = columns | {"windows.newest": newest}, ("adaptation", "retrospective", "scores")
            self.keys.restore(ExportedState(columns, state.values), leave_out=leave_out)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, msgspec.ValidationError) as error:
            raise StateError(f"the snapshot does not fit: {error}") from None

    def forget(self, partition: int) -> None:
        """Drop a partition's streams; they warm up again if they come back."""
        self.keys.forget_partition(partition)
