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
from streamer.core.events import ANOMALY, CORRECTED, OPEN, RESOLVE, STREAM, Event
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.options import PipelineOptions
from streamer.core.scoring import Scored, Scorer
from streamer.core.spans import Part, anomalous_part, leading
from streamer.core.times import Timed, Times

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
        self.times = Times(state, options.window)
        # How the features took part in each open incident when it was last reported.
        self.attributions: dict[int, list[alerts.Attribution]] = state.register_sparse(
            "attributions", msgspec.to_builtins, lambda value: msgspec.convert(value, list[alerts.Attribution])
        )
        # Streams with an open incident, and its anomalous part as far as it is known.
        self._parts: dict[int, Part | None] = state.register_sparse(
            "parts", lambda part: part and part.encode(), lambda value: value and Part.decode(value)
        )

    def scored(self, events: Sequence[Event], some: Scored, timed: Timed, codes: Ints) -> Told:
        """Alerts of windows just scored; what explains them is found while the windows are at hand.

        Args:
            events: Of the windows; `row` counts these.
            some: The windows.
            timed: When the readings of the batch were made.
            codes: Stream of each window.
        """
        told: Told = []
        if not self._parts and not events:
            return told
        anomalous = dict(zip(some.anomalous.tolist(), range(len(some.anomalous)), strict=True)) if events else {}
        told_at = {event.row for event in events}
        due = [place for place in self._due(events, some, timed, codes) if place not in told_at]
        # An alert of an anomalous window is explained by itself; other windows are only looked at, all together.
        others = [*due, *(told_at - anomalous.keys())]
        deviations = self._scorer.deviations(some.windows[others], codes[others]) if others else ()
        looked = dict(zip(others, deviations, strict=True))
        both = [*((place, None) for place in due), *((event.row, event) for event in events)]
        for place, event in sorted(both, key=lambda each: each[0]):
            code = int(codes[place])
            if event is None and code not in self._parts:
                continue
            if event is not None and event.event == OPEN:
                self._parts[code] = None
            deviation = looked.get(place)
            if deviation is None:
                deviation = self._explain(code, some.windows[place], some.shares[anomalous[place]])
            columns = leading(self._options.features, self.attributions.get(code, ()))
            times_ns = timed.window(code, int(some.rows[place]))
            self._parts[code] = anomalous_part(self._parts.get(code), deviation[:, columns], times_ns)
            if event is not None:
                told.append((dataclasses.replace(event, row=int(some.rows[place])), self.alert(event, some.filled)))
        return told

    def _explain(self, code: int, window: Float32, shares: Float32) -> Float32:
        """Note how the features take part; returns how far each reading deviates."""
        why = self._scorer.explain(window, shares, code)
        self.attributions[code] = alerts.attribute(
            self._options.features, why.observed, why.expected, why.shares, why.lower, why.upper
        )
        return why.deviation

    def _due(self, events: Sequence[Event], some: Scored, timed: Timed, codes: Ints) -> list[int]:
        """Windows of streams with an open incident that end half a window after the one looked at before."""
        every, numbers = max(1, self._options.window // 2), timed.numbers[some.rows]
        half = numbers // every > (numbers - self._options.stride) // every
        places = np.flatnonzero(half & ~np.isnan(some.score))
        open_now = {*self._parts, *(event.code for event in events)}
        due: list[int] = places[np.isin(codes[places], list(open_now))].tolist()
        return due

    def alert(self, event: Event, filled: Float32 | None = None) -> alerts.Alert:
        """The alert of an event; `filled` of the windows it is one of."""
        attributions: Sequence[alerts.Attribution] = ()
        span, rarity = None, None
        if event.kind == ANOMALY:
            # When it resolves the window is normal again; what was last reported stands.
            attributions = self.attributions.get(event.code, ())
            if event.reason != CORRECTED:
                span, rarity = _span(self._parts.get(event.code)), self._rarity(event)
            if event.event == RESOLVE:
                self.attributions.pop(event.code, None)
                self._parts.pop(event.code, None)
        scored = event.kind == ANOMALY and filled is not None
        return alerts.build(
            event,
            topic=self._options.topic,
            stream=self._subject(event),
            attributions=attributions,
            model_version=self._scorer.version,
            dashboard_url=self._options.dashboard_url,
            filled=float(filled[event.row]) if scored and filled is not None else 0.0,
            span=span,
            rarity=rarity,
            in_training=self._scorer.in_training(event.code) if event.scope == STREAM else None,
        )

    def _rarity(self, event: Event) -> alerts.Rarity | None:
        rarity = self._scorer.rarity(event.code, event.peak)
        return None if rarity is None else alerts.Rarity(float(f"{rarity.seconds:.3g}"), rarity.at_least)

    def all(self, events: Sequence[Event]) -> Told:
        """Events, each with its alert."""
        return [(event, self.alert(event)) for event in events]

    def _subject(self, event: Event) -> str:
        """Whom an incident is about: a stream, or a whole partition as the logs call it."""
        if event.scope == STREAM:
            return self._names[event.code]
        return f"{self._options.topic}[{event.details['partition']}]"


def _span(part: Part | None) -> alerts.Span | None:
    if part is None:
        return None
    length_ns = part.end_ns - part.begin_ns + part.step_ns
    return alerts.Span(alerts.iso(part.begin_ns), alerts.iso(part.end_ns), length_ns // 1_000_000 / 1000)
