"""A sample of messages -> a `Look`: its format, its fields, what is what, and when readings come.

Pure apart from the registry that `from_registry` may ask. Not inside: where messages come from (`sampling`), what is
printed (`report`), what a configuration makes of them (`examining`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.errors import DataError
from streamer.offline.look.choosing import KAFKA, KEY, Choice, Chosen, Wanted, choose
from streamer.offline.look.features import Features, choose_features
from streamer.offline.look.fields import NO_TIME, Field, field_of, profile
from streamer.offline.look.movement import Timing, codes_of, timing
from streamer.offline.look.named import check_features, check_named
from streamer.offline.look.partitions import Split, split_of
from streamer.offline.look.recognising import FromRegistry, Recognised, recognise
from streamer.offline.look.sampling import Message, Sample
from streamer.offline.look.seldom import intervals, too_seldom
from streamer.offline.look.shapes import Rows, flatten
from streamer.offline.look.spans import nice, say
from streamer.offline.look.two_columns import join_time

Ints = NDArray[np.int64]

_CELLS = 400_000  # values of one look


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a sample looks like."""

    sample: Sample
    recognised: Recognised
    rows: Rows
    fields: Mapping[str, Field]
    pseudo: Mapping[str, Field]  # key, broker's time, headers
    chosen: Chosen
    features: Features
    timing: Timing
    run: Ints  # of each row
    times_ns: Ints  # of each row; `fields.NO_TIME` where there is none
    metrics_s: Mapping[str, float]  # how often each metric of a stream comes, in the long layout
    partition: Ints  # of each row
    split: Split | None = None  # streams that are in several partitions
    joined: tuple[str, ...] = ()  # columns of a file that make up the time


def look(
    sample: Sample,
    wanted: Wanted | None = None,
    *,
    readings: str | None = None,
    from_registry: FromRegistry | None = None,
) -> Look:
    """What the messages of a sample look like.

    Args:
        sample: The messages.
        wanted: What the user has decided.
        readings: Path of the array of readings in a message; None: found.
        from_registry: Decodes messages by their schema.

    Raises:
        DataError: There is nothing that could be recognised, or no field that the user names.
    """
    wanted = wanted or Wanted()
    recognised = recognise(sample, from_registry)
    if not recognised.documents:
        first = recognised.failed[0][1] if recognised.failed else "no message"
        why = recognised.why or f"they are no JSON, MessagePack, Influx line protocol, CSV or TSV; one begins {first}"
        raise DataError(f"{sample.origin}: the messages cannot be read: {why}")
    recognised = _bounded(recognised, sample)
    rows = flatten(recognised.documents, readings)
    if not rows.rows:
        raise DataError(
            f"{sample.origin}: wanted readings in {rows.readings!r}; it is empty in every message looked at"
        )
    every_row, rows = rows, _most_alike(rows)
    message = np.asarray(recognised.rows, np.int64)[np.asarray(rows.document, np.int64)]
    date_format = sample.written.date_format
    fields: Mapping[str, Field] = profile(rows.rows, dates=sample.is_file, date_format=date_format)
    joined: tuple[str, ...] = ()
    if sample.is_file and wanted.timestamp is None:
        fields, joined = join_time(fields, rows.rows, sample.written.timestamp, date_format)
    messages = sample.messages
    if messages:
        run = np.array([messages[i].run for i in message], np.int64)
        taken_ms = np.array([messages[i].taken_ms for i in message], np.int64)
        partition = np.array([messages[i].partition for i in message], np.int64)
        pseudo = {} if sample.is_file else _pseudo([messages[i] for i in message])
    else:
        run = np.asarray(sample.runs or np.zeros(len(sample.documents or ())), np.int64)[message]
        taken_ms, pseudo = np.full(len(message), -1, np.int64), {}
        partition = np.zeros(len(message), np.int64)
    check_named(sample.origin, wanted, fields, pseudo)
    chosen = choose(fields, run, wanted, pseudo)
    check_features(sample.origin, wanted, fields, chosen)
    every = {**fields, **pseudo}
    times = every[chosen.timestamp].times_ns if chosen.timestamp in every else None
    if times is None:
        times = np.full(len(message), NO_TIME)
    features = choose_features(fields, chosen, run, times, wanted)
    equal = codes_of([str(sorted(row.items(), key=lambda item: item[0])) for row in rows.rows], times)
    split = split_of(chosen.group, chosen.names, partition) if chosen.stream else None
    when = timing(
        times,
        chosen.group,
        chosen.names,
        run,
        taken_ms=taken_ms,
        equal=equal,
        metric=_what(fields, chosen, features),
        together=split is not None,
    )
    if recognised.format == "influx":
        features = replace(features, left=[*_other_measurements(every_row, rows), *features.left])
    metrics_s = _metrics_s(fields, chosen, run if split is None else np.zeros_like(run), times)
    if wanted.features is None and when.interval_s is not None:
        features = _without_seldom(features, metrics_s, wanted.grid_s or nice(when.interval_s))
    return Look(
        sample,
        recognised,
        rows,
        fields,
        pseudo,
        chosen,
        features,
        when,
        run,
        times,
        metrics_s,
        partition,
        split,
        joined,
    )


def _metrics_s(fields: Mapping[str, Field], chosen: Chosen, run: Ints, times: Ints) -> Mapping[str, float]:
    names = fields[chosen.metric.name].texts if chosen.metric is not None and chosen.metric.name in fields else None
    return {} if names is None else intervals(names, chosen.group, run, times)


def _without_seldom(features: Features, metrics_s: Mapping[str, float], grid_s: float) -> Features:
    """Features less the metrics of which most bars would have no value, and be left out of training."""
    slow = too_seldom(metrics_s, [feature.name for feature in features.taken], grid_s)
    if not slow:
        return features
    left = [
        Choice(
            name,
            f"comes about every {say(metrics_s[name])}; to take it, set time.gap_limit: "
            f"{min(1000, math.ceil(2 * metrics_s[name] / grid_s))} or a longer time.grid",
        )
        for name in slow
    ]
    taken = [feature for feature in features.taken if feature.name not in slow]
    return replace(features, taken=taken, left=[*left, *features.left])


def _bounded(recognised: Recognised, sample: Sample) -> Recognised:
    """As many documents of each run as a look has time for, where they have many fields."""
    some = flatten(recognised.documents[:10]).rows
    cells = max(1, sum(map(len, some)) // min(10, len(recognised.documents)))
    most = max(200, _CELLS // cells)
    if len(recognised.documents) <= most:
        return recognised
    runs = [sample.messages[row].run for row in recognised.rows] if sample.messages else list(sample.runs)
    left = dict.fromkeys(runs, max(20, most // max(1, len(set(runs)))))
    kept = []
    for i, run in enumerate(runs):
        if left[run] > 0:
            left[run] -= 1
            kept.append(i)
    return replace(
        recognised, documents=[recognised.documents[i] for i in kept], rows=[recognised.rows[i] for i in kept]
    )


def _most_alike(rows: Rows) -> Rows:
    """Without rows that have hardly a field in common with most: heartbeats and other kinds of messages."""
    kinds = Counter(frozenset(row) for row in rows.rows)
    usual = kinds.most_common(1)[0][0]
    alike = {kind for kind in kinds if 2 * len(kind & usual) >= len(kind | usual)}
    kept = [i for i, row in enumerate(rows.rows) if frozenset(row) in alike]
    if len(kept) < 0.5 * len(rows.rows) or len(kept) == len(rows.rows):
        return rows
    return replace(rows, rows=[rows.rows[i] for i in kept], document=[rows.document[i] for i in kept])


def _other_measurements(rows: Rows, taken: Rows) -> list[Choice]:
    """Measurements of the line protocol of which no reading was taken."""
    mine = {row.get("measurement") for row in taken.rows}
    others = Counter(str(row["measurement"]) for row in rows.rows if row.get("measurement") not in mine)
    return [
        Choice(
            f"measurement {name}",
            f"another one: {count} of {len(rows.rows)} lines looked at; take it with a configuration of its own",
        )
        for name, count in others.most_common(10)
    ]


def _what(fields: Mapping[str, Field], chosen: Chosen, features: Features) -> Ints | None:
    """What each row is a reading of: its metric, or which of the features it has; None if all have all."""
    if chosen.metric is not None:
        names = fields[chosen.metric.name].texts
        return None if names is None else codes_of(names)
    columns = [fields[each.name].numbers for each in features.taken if each.coverage < 0.6 and each.name in fields]
    there = [np.isfinite(column) for column in columns if column is not None]
    return codes_of(*there) if there else None


def _pseudo(messages: Sequence[Message]) -> dict[str, Field]:
    """What stands beside the values: the key, the broker's time, headers."""
    found = {KEY: field_of(KEY, [_text(message.key) for message in messages])}
    taken = [message.taken_ms if message.taken_ms > 0 else None for message in messages]
    found[KAFKA] = field_of(KAFKA, taken)
    names = dict.fromkeys(name for message in messages[:200] for name, _ in message.headers)
    for name in list(names)[:20]:
        values = [_header(message, name) for message in messages]
        found[f"@header:{name}"] = field_of(f"@header:{name}", values)
    return {name: field for name, field in found.items() if field.present}


def _header(message: Message, name: str) -> Any:
    for header, value in message.headers:
        if header == name:
            return _text(value)
    return None


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
