"""What `/metrics` says of single streams, and which of them are shown.

Not inside: the metrics themselves (`metrics`), the figures (`core.pipeline`), how often this is asked (`runtime`).
"""

from __future__ import annotations

import numpy as np

from streamer.core.events import ANOMALY
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import StreamSeries


def stream_series(pipeline: Pipeline, most: int) -> tuple[list[StreamSeries], int]:
    """At most `most` streams as `/metrics` shows them, and how many are left out.

    Streams with an open anomaly come first, then those with the lowest codes: series should not come and go. A silent
    stream is no anomaly: its last score is of before, and silences are counted and told by themselves.
    """
    held = pipeline.keys.held()
    pipeline.keys.reach(held)
    is_open = pipeline.incidents.is_open
    notifying = pipeline.notifying
    latest, last_ns = pipeline.latest, pipeline.silence.last_ns
    shown = held[np.argsort(~is_open[held], kind="stable")[:most]]
    views = [
        StreamSeries(
            stream=pipeline.keys.names[code],
            score=_number(latest["score"][code]),
            settled=_number(latest["settled"][code]),
            error=_number(latest["error"][code]),
            active=bool(is_open[code]) and not (notifying is not None and notifying.is_muted(code, ANOMALY)),
            last_event_s=float(last_ns[code]) / 1e9,
            attributions=pipeline.telling.attributions.get(code, ()),
        )
        for code in shown.tolist()
    ]
    return views, len(held) - len(shown)


def _number(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
