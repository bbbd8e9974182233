"""A sample against a configuration: what the daemon would make of it, what it would refuse, and the likely remedy.

The daemon's own decoder says what is refused (`formats`); a look that is free of the configuration says what is there
instead (`mapping`). Not inside: how either is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from streamer.config import Settings
from streamer.connectors.kafka.decoding import decoder_for
from streamer.connectors.kafka.interface import RecordBatch
from streamer.core.keyed_state import KeyedState
from streamer.core.readings import Readings
from streamer.errors import DataError
from streamer.offline.look.examined import HALF, Examined
from streamer.offline.look.looking import Look, look
from streamer.offline.look.mapping import compare
from streamer.offline.look.recognising import FromRegistry
from streamer.offline.look.sampling import Message, Sample

_SHOWN = 3  # decoded readings
_DETAIL = 160  # characters of one reason


def examine(
    settings: Settings,
    sample: Sample,
    *,
    seen: Look | None = None,
    from_registry: FromRegistry | None = None,
) -> Examined:
    """What a configuration makes of a sample.

    Args:
        settings: The configuration.
        sample: Messages, or rows of files.
        seen: What they look like, if that is known already.
        from_registry: Decodes messages by their schema, for a look.
    """
    records = settings.records
    found = Examined(sample.origin)
    if not sample.is_file:
        _decode(settings, sample, found)
    try:
        if seen is None:
            seen = look(
                dataclasses.replace(sample, columns=sample.columns or records.columns), from_registry=from_registry
            )
        fit = compare(records, seen)
    except DataError as error:
        found.faults = [str(error)] if found.share > HALF else []
        return found
    if found.messages and found.share < 0.05 and not _stops_all(fit.faults):
        # The decoder has the last word: what it takes is no fault.
        found.remarks = [*fit.faults, *fit.remarks]
    else:
        found.faults, found.remarks = fit.faults, fit.remarks
    return found


def require_fit(settings: Settings, sample: Sample, **known: Any) -> Examined:
    """The same, for a command that goes on with the data.

    Raises:
        DataError: Nothing good can come of it; says why, and the likely remedy.
    """
    found = examine(settings, sample, **known)
    if found.hopeless and (found.messages or sample.is_file):
        raise DataError(found.reason())
    return found


def _stops_all(faults: Sequence[str]) -> bool:
    """Whether a fault is one that the decoder cannot see: a wrong unit, a feature that is never there.

    A feature of which nothing like it is there, either, may only be rare.
    """
    return any(
        "records.timestamp_unit:" in fault
        or (fault.startswith("no message") and ("did you mean" in fault or "(records.features)" not in fault))
        for fault in faults
    )


def _decode(settings: Settings, sample: Sample, found: Examined) -> None:
    streams = KeyedState()
    decoder = decoder_for(settings, streams)
    for batch in batches(sample):
        decoded = decoder.decode(batch)
        found.messages += len(batch)
        found.readings += len(decoded.readings)
        found.ignored += decoded.ignored
        for reject in decoded.rejects:
            count, first = found.refused.get(reject.reason, (0, ""))
            if not count:
                first = f"[{batch.partition}]@{batch.offsets[reject.row]}: {reject.detail[:_DETAIL]}"
            found.refused[reject.reason] = (count + 1, first)
        if len(found.samples) < _SHOWN and len(decoded.readings):
            found.samples += _show(
                decoded.readings, streams.names, settings.records.features, _SHOWN - len(found.samples)
            )


def batches(sample: Sample) -> Iterator[RecordBatch]:
    """Messages as they would be polled."""
    messages = list(sample.messages)
    begin = 0
    for end in range(1, len(messages) + 1):
        if end == len(messages) or messages[end].run != messages[begin].run:
            yield _batch(sample.origin.removeprefix("topic "), messages[begin:end])
            begin = end


def _batch(topic: str, messages: Sequence[Message]) -> RecordBatch:
    return RecordBatch(
        topic,
        messages[0].partition,
        np.array([message.offset for message in messages], np.int64),
        np.array([message.taken_ms for message in messages], np.int64),
        [message.key for message in messages],
        [message.value for message in messages],
        [message.headers for message in messages],
    )


def _show(readings: Readings, names: Sequence[str], features: Sequence[str], most: int) -> Iterator[str]:
    """Readings in words: `press-7 2026-01-09T02:00:00Z temperature 41.3, vibration 1.91`."""
    step = max(1, len(readings) // most)
    for i in range(0, len(readings), step)[:most]:
        time = datetime.fromtimestamp(int(readings.time_ns[i]) / 1e9, UTC).isoformat(timespec="milliseconds")
        there = [
            f"{name} {value:.6g}"
            for name, value in zip(features, readings.values[i].tolist(), strict=True)
            if not np.isnan(value)
        ]
        shown = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
        yield f"{names[readings.stream[i]]}  {time.replace('+00:00', 'Z')}  {shown}"
