"""From events to alerts: who they are about, and which features took part.

Pure. Not inside: when something is told (`incidents`, `silence`, `rules`), the words (`alerts`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.core import alerts
from streamer.core.events import ANOMALY, RESOLVE, STREAM, Event
from streamer.core.keyed_state import KeyedState
from streamer.core.options import PipelineOptions
from streamer.core.scoring import Scored, Scorer

Float32 = NDArray[np.float32]
Told = list[tuple[Event, alerts.Alert]]


class Telling:
    """Makes alerts.

    Args:
        state: Of all streams.
        options: Topic, features, dashboard.
        scorer: Explains, and knows the bundle's version.
    """

    def __init__(self, state: KeyedState, options: PipelineOptions, scorer: Scorer) -> None:
        self._names, self._options, self._scorer = state.names, options, scorer
        # How the features took part in each open incident when it was last reported.
        self.attributions: dict[int, list[alerts.Attribution]] = state.register_sparse(
            "attributions", msgspec.to_builtins, lambda value: msgspec.convert(value, list[alerts.Attribution])
        )

    def scored(self, events: Sequence[Event], some: Scored) -> Told:
        """Alerts of windows just scored; what explains them is found while the windows are at hand."""
        told = []
        for event in events:
            place = int(np.searchsorted(some.anomalous, event.row))
            if place < len(some.anomalous) and some.anomalous[place] == event.row:
                why = self._scorer.explain(some.windows[event.row], some.shares[place], event.code)
                self.attributions[event.code] = alerts.attribute(
                    self._options.features, why.observed, why.expected, why.shares
                )
            alert = self.alert(event, some.filled)
            told.append((dataclasses.replace(event, row=int(some.rows[event.row])), alert))
        return told

    def alert(self, event: Event, filled: Float32 | None = None) -> alerts.Alert:
        """The alert of an event; `filled` of the windows it is one of."""
        attributions: Sequence[alerts.Attribution] = ()
        if event.kind == ANOMALY:
            # When it resolves the window is normal again; what was last reported stands.
            attributions = self.attributions.get(event.code, ())
            if event.event == RESOLVE:
                self.attributions.pop(event.code, None)
        scored = event.kind == ANOMALY and filled is not None
        return alerts.build(
            event,
            topic=self._options.topic,
            stream=self._subject(event),
            attributions=attributions,
            model_version=self._scorer.version,
            dashboard_url=self._options.dashboard_url,
            filled=float(filled[event.row]) if scored and filled is not None else 0.0,
        )

    def all(self, events: Sequence[Event]) -> Told:
        """Events, each with its alert."""
        return [(event, self.alert(event)) for event in events]

    def _subject(self, event: Event) -> str:
        """Whom an incident is about: a stream, or a whole partition as the logs call it."""
        if event.scope == STREAM:
            return self._names[event.code]
        return f"{self._options.topic}[{event.details['partition']}]"
