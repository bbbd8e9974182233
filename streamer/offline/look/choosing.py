"""Which field is the stream, the time, the metric and the value; which are features, and which are not, and why.

Times move forward; a stream is what they move forward in; a feature is a number that is neither constant nor an
identifier. Names are hints. Pure. Not inside: what the fields hold (`fields`), how they move (`movement`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.core.stream_names import valid_stream_name
from streamer.offline.look import words
from streamer.offline.look.fields import NUMBER, NUMERIC, TEXT, Field
from streamer.offline.look.movement import Movement, codes_of, evenness, movement, roughness
from streamer.offline.look.words import hint

KEY = "@key"
KAFKA = "@kafka"
AS_YOU_SAID = "as you said"  # why something is chosen
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user has decided; None: found."""

    stream: tuple[str, ...] | None = None
    timestamp: str | None = None
    timestamp_unit: str | None = None
    metric: str | None = None
    value: str | None = None
    features: tuple[str, ...] | None = None
    grid_s: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A field, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Where in a message the stream, the time and the values are."""

    stream: tuple[str, ...]  # empty: no field names the stream
    stream_why: str
    timestamp: str | None
    timestamp_unit: str
    timestamp_why: str
    group: Ints  # code of each row's stream
    names: Sequence[str]  # of the codes
    metric: Choice | None = None
    value: Choice | None = None


def choose(fields: Mapping[str, Field], run: Ints, wanted: Wanted, pseudo: Mapping[str, Field]) -> Chosen:
    """The roles of fields.

    Args:
        fields: Of the messages.
        run: Of each row; rows of a run came one after another.
        wanted: What is decided already.
        pseudo: Key, broker's time and headers, by the names that the configuration has for them.
    """
    every = {**fields, **pseudo}
    time, unit, why = _choose_time(fields, pseudo, run, wanted)
    times = every[time].times_ns if time in every else None
    numbers = [field for field in fields.values() if field.kind in NUMERIC and field.name != time]
    metric, value = _choose_metric(fields, numbers, run, times, wanted)
    if metric is not None:
        by = codes_of(run, _texts(fields[metric.name]))
        numbers = [fields[value.name]] if value is not None and value.name in fields else []
    else:
        by = codes_of(run)
    stream, stream_why = _choose_stream(every, by, times, numbers, wanted, {time, metric.name if metric else None})
    if metric is not None and not stream and wanted.metric is None:
        # Nothing else names a stream: each metric is one.
        stream, stream_why, metric = (metric.name,), f"the only field that tells readings apart; {metric.why}", None
    group, names = _groups(every, stream, len(run))
    return Chosen(stream, stream_why, time, unit, why, group, names, metric, value if metric else None)


def _choose_time(
    fields: Mapping[str, Field], pseudo: Mapping[str, Field], run: Ints, wanted: Wanted
) -> tuple[str | None, str, str]:
    every = {**fields, **pseudo}
    if wanted.timestamp is not None:
        field = every.get(wanted.timestamp)
        unit = wanted.timestamp_unit or (field.unit if field else None) or "iso8601"
        return wanted.timestamp, unit, AS_YOU_SAID
    best: tuple[float, str | None, str, str] = (0.0, None, "iso8601", "no field holds times that move forward")
    whole = codes_of(run)
    for name, field in every.items():
        if field.times_ns is None or field.coverage < 0.9 or field.distinct < min(3, field.rows):
            continue
        moves = movement(field.times_ns, whole)
        score = moves.forward + moves.same + 0.8 * hint(name, words.TIME) - 0.5 * hint(name, words.ARRIVAL)
        score -= 0.9 * (name == KAFKA) + 0.2 * name.startswith("@header:")
        score += 0.1 * (field.unit == "iso8601")
        if moves.steps and moves.back > 0.6 and not hint(name, words.TIME):
            continue
        if score > best[0]:
            kind = "ISO 8601" if field.unit == "iso8601" else f"{_UNITS[str(field.unit)]} since 1970"
            best = (score, name, str(field.unit), f"{kind}; {moves.back:.1%} of steps go back")
    return best[1], best[2], best[3]


_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def _choose_metric(
    fields: Mapping[str, Field], numbers: Sequence[Field], run: Ints, times: Ints | None, wanted: Wanted
) -> tuple[Choice | None, Choice | None]:
    """The field that names the metric, if messages have one each, and the field with its value."""
    if wanted.features is not None and wanted.metric is None and all(name in fields for name in wanted.features):
        return None, None
    values = [field for field in numbers if field.times_ns is None and field.coverage > 0.9 and field.distinct > 2]
    likely = [field for field in values if hint(field.name, words.VALUE) == 1.0]
    if wanted.value is not None:
        likely = [field for field in fields.values() if field.name == wanted.value]
    elif not likely and len(values) == 1:
        likely = values
    if not likely:
        return None, None
    value = Choice(likely[0].name, "the number that every message has")
    if wanted.metric is not None:
        return Choice(wanted.metric, "as you said"), value
    texts = [
        field
        for field in fields.values()
        if field.kind == TEXT and field.coverage > 0.95 and 2 <= field.distinct <= max(2, min(300, field.rows // 4))
        if not hint(field.name, words.NOT_STREAM) or hint(field.name, words.METRIC) == 1.0
    ]
    numbers_of = likely[0].numbers
    best: tuple[float, Choice | None] = (0.0, None)
    for field in texts:
        others = [other for other in texts if other is not field]
        crossing = max((_crossing(field, other) for other in others), default=0.0)
        apart = 0.0 if numbers_of is None else _apart(numbers_of, codes_of(_texts(field)))
        score = hint(field.name, words.METRIC) - 0.8 * (
            hint(field.name, words.STREAM) if not hint(field.name, words.METRIC) else 0.0
        )
        score += apart + (0.5 if crossing > 0.7 else 0.0)
        named = max(hint(field.name, words.METRIC), hint(value.name, words.VALUE))
        surely = (crossing > 0.7 and apart > 0.3 and named) or hint(field.name, words.METRIC) == 1.0
        if surely and score > best[0]:
            why = f"{field.distinct} names, each with values of its own size; every message has one"
            best = (score, Choice(field.name, why))
    return (best[1], value) if best[1] is not None else (None, None)


def _crossing(one: Field, other: Field) -> float:
    """Share of the pairs of values of two fields that occur."""
    pairs = len(np.unique(codes_of(_texts(one), _texts(other))))
    return pairs / max(1, one.distinct * other.distinct)


def _apart(values: NDArray[np.float64], group: Ints) -> float:
    """Share of the spread of values that groups explain, in ranks: 0 none, 1 all of it."""
    known = np.isfinite(values)
    if known.sum() < 8:
        return 0.0
    ranks = np.empty(int(known.sum()))
    ranks[np.argsort(values[known], kind="stable")] = np.arange(len(ranks))
    group = group[known]
    count = np.maximum(np.bincount(group), 1)
    middle = np.bincount(group, ranks) / count
    return float(np.var(middle[group])) / max(float(np.var(ranks)), 1e-9)


def _choose_stream(
    every: Mapping[str, Field],
    by: Ints,
    times: Ints | None,
    numbers: Sequence[Field],
    wanted: Wanted,
    taken: set[str | None],
) -> tuple[tuple[str, ...], str]:
    """The field whose values times move forward in, and why; none if there is none."""
    if wanted.stream is not None:
        return wanted.stream, "as you said"
    columns = [field.numbers for field in numbers if field.numbers is not None and field.distinct > 2][:8]
    before = movement(times, by) if times is not None else Movement(0, 0.0, 0.0, 0.0)
    rough, even = roughness(columns, by), evenness(times, by) if times is not None else 0.0
    scores: list[tuple[float, Field, Movement]] = []
    for name, field in every.items():
        if name in taken or not _may_name(field):
            continue
        group = codes_of(by, _texts(field))
        after = movement(times, group) if times is not None else before
        score = 1.2 * hint(name, words.STREAM) - 0.8 * hint(name, words.NOT_STREAM) * (hint(name, words.STREAM) < 1)
        score += 2 * (before.same + before.back - after.same - after.back)
        # One column that a stream makes smooth says more than others that are noise in any case.
        score += 2 * float(np.max(rough - roughness(columns, group), initial=0.0))
        score += max(0.0, evenness(times, group) - even) if times is not None else 0.0
        score -= 0.6 * (field.distinct == 1) + 0.3 * (name == KEY) + 0.3 * (field.kind == NUMBER)
        score -= 0.5 * (name.startswith("@header:"))
        scores.append((score, field, after))
    if not scores:
        return (), "no text of few different values that readings could belong to"
    score, field, after = max(scores, key=lambda one: one[0])
    if score < 0.15:
        return (), "no field that times move forward in"
    names: tuple[str, ...] = (field.name,)
    moves = after
    if after.same + after.back > 0.05:
        for _, other, _ in sorted(scores, key=lambda one: -one[0]):
            if other is field or other.name.startswith("@") or hint(other.name, words.NOT_STREAM):
                continue
            both = movement(times, codes_of(by, _texts(field), _texts(other))) if times is not None else after
            if both.same + both.back < 0.2 * (after.same + after.back) and both.steps > 0.3 * after.steps:
                names, moves = (field.name, other.name), both
                break
    why = f"{moves.forward:.1%} of steps within a stream move forward in time"
    return names, why if moves.steps else f"{field.distinct} names"


def _may_name(field: Field) -> bool:
    if field.coverage < 0.98 or field.times_ns is not None:
        return False
    if field.kind == TEXT:
        if field.distinct > max(2, field.rows // 3) and hint(field.name, words.STREAM) != 1.0:
            return False
        if field.distinct > 0.9 * field.rows > 20:
            return False  # a name of its own for every message
        return all(valid_stream_name(text) for text in set(_texts(field)) if text is not None)
    return (
        field.kind == NUMBER
        and field.whole
        and bool(hint(field.name, words.STREAM))
        and field.distinct <= max(2, field.rows // 10)
    )


def _groups(every: Mapping[str, Field], stream: tuple[str, ...], rows: int) -> tuple[Ints, Sequence[str]]:
    columns = [_texts(every[name]) for name in stream if name in every]
    if not columns or rows == 0:
        return np.zeros(rows, np.int64), [""]
    joined = ["/".join("" if part is None else str(part) for part in parts) for parts in zip(*columns, strict=True)]
    names, codes = np.unique(np.array(joined, object), return_inverse=True)
    return codes.astype(np.int64), [str(name) for name in names]


def _texts(field: Field) -> NDArray[np.object_]:
    if field.texts is not None:
        return field.texts
    if field.numbers is not None:
        shown = [None if np.isnan(n) else str(int(n)) if n == np.floor(n) else str(n) for n in field.numbers]
        return np.array(shown, object)
    return np.full(field.rows, None, object)
