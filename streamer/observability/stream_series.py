"""What `/metrics` says of single streams: the newest score of each, and which of them are shown.

Not inside: the metrics themselves (`metrics`), how often this is asked (`daemon`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.core.grouping import Ints
from streamer.core.keyed_state import Table
from streamer.core.pipeline import Pipeline
from streamer.core.readings import NEVER
from streamer.observability.metrics import StreamView

Float32 = NDArray[np.float32]


class NewestScores:
    """The newest score, settled score and error of every stream."""

    def __init__(self) -> None:
        self._table = Table(dict.fromkeys(("score", "settled", "error"), (np.float32, (), np.nan)))

    def update(self, codes: Ints, score: Float32, settled: Float32, error: Float32) -> None:
        """Take in scores; of several of one stream the last stays."""
        self._table.reach(int(codes.max()) + 1)
        self._table["score"][codes] = score
        self._table["settled"][codes] = settled
        self._table["error"][codes] = error

    def streams(self, pipeline: Pipeline, most: int) -> tuple[list[StreamView], int]:
        """At most `most` streams as `/metrics` shows them, and how many are left out.

        Streams with an open incident come first, then those known longest: series
        should not come and go.
        """
        held = pipeline.held()
        self._table.reach(len(pipeline.streams))
        pipeline.incidents.table.reach(len(pipeline.streams))
        is_open = pipeline.incidents.table["open"]
        silent = pipeline.silence.table["silent_since_ns"]
        last = pipeline.silence.table["last_ns"]
        shown = held[np.argsort(~is_open[held], kind="stable")[:most]]
        views = [
            StreamView(
                stream=pipeline.streams.names[code],
                score=_number(self._table["score"][code]),
                settled=_number(self._table["settled"][code]),
                error=_number(self._table["error"][code]),
                active=bool(is_open[code]) or bool(silent[code] != NEVER),
                last_event_s=float(last[code]) / 1e9,
                parts=pipeline.parts.get(code, ()),
            )
            for code in shown.tolist()
        ]
        return views, len(held) - len(shown)


def _number(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
