"""Which numbers a model should see, which not and why, and what kind of data this is.

Constants, identifiers, flags and further times are no features; a counter is one by its rate. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.offline.look import words
from streamer.offline.look.choosing import Choice, Chosen, Wanted
from streamer.offline.look.fields import LIST, NO_TIME, NOTHING, NUMERIC, SWITCH, TEXT, TIME, Field
from streamer.offline.look.movement import codes_of, consecutive
from streamer.offline.look.words import hint

SENSOR, SENSOR_LONG, TRADES, QUOTES = "sensor", "sensor-long", "ticks-trades", "ticks-quotes"

_STEPS = 20  # of a stream, before its numbers are called a counter
_MOST = 64  # features that are proposed
_DAY_NS = 86_400_000_000_000

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Feature:
    """A field, or a metric, that the model should see."""

    name: str
    why: str  # its range, what is special about it
    counter: bool = False  # only grows: its rate is what tells
    zero_is_missing: bool = False
    coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class Features:
    """What to take and what to leave."""

    kind: str  # one of `PRESETS`
    kind_why: str
    taken: Sequence[Feature]
    left: Sequence[Choice]  # fields that are no features, and why
    sequence: Choice | None = None
    roles: Mapping[str, str] | None = None  # of ticks: price, size, bid, ask, bid_size, ask_size -> field


def choose_features(fields: Mapping[str, Field], chosen: Chosen, run: Ints, times_ns: Ints, wanted: Wanted) -> Features:
    """The features of rows whose stream and time are chosen."""
    used = {*chosen.stream, chosen.timestamp} | ({chosen.metric.name} if chosen.metric else set())
    group = codes_of(chosen.group, run)
    sequence = _sequence(fields, group, chosen.group, times_ns, used)
    left: list[Choice] = []
    taken: list[Feature] = []
    if chosen.metric is not None and chosen.value is not None:
        used.add(chosen.value.name)
        left += [Choice(field.name, _kind_of_other(field)) for field in fields.values() if field.name not in used]
        columns = _metrics(fields[chosen.metric.name], fields.get(chosen.value.name))
    else:
        columns = {name: field for name, field in fields.items() if name not in used}
    for name, field in columns.items():
        if wanted.features is not None:
            if name not in wanted.features and chosen.metric is None:
                left.append(Choice(name, "not among those you named"))
                continue
            if name not in wanted.features:
                continue
        elif sequence is not None and name == sequence.name:
            left.append(Choice(name, sequence.why))
            continue
        elif reason := _no_feature(field, group, times_ns, chosen):
            left.append(Choice(name, reason))
            continue
        if field.numbers is not None:
            taken.append(_feature(field, group, times_ns))
    if len(taken) > _MOST and wanted.features is None:
        left += [Choice(each.name, f"only the first {_MOST} are proposed") for each in taken[_MOST:]]
        taken = taken[:_MOST]
    kind, why, roles = _kind(taken, fields, chosen)
    if roles and wanted.features is None:
        left += [Choice(each.name, f"not part of {kind}") for each in taken if each.name not in roles.values()]
        taken = [each for each in taken if each.name in roles.values()]
    return Features(kind, why, taken, left, sequence, roles)


def _metrics(metric: Field, value: Field | None) -> dict[str, Field]:
    """A column for each metric, with numbers in its own rows alone."""
    if metric.texts is None or value is None or value.numbers is None:
        return {}
    found = {}
    for name in dict.fromkeys(text for text in metric.texts if text is not None):
        mine = metric.texts == name
        numbers = np.where(mine, value.numbers, np.nan)
        present = int(np.isfinite(numbers).sum())
        found[str(name)] = Field(
            str(name),
            value.kind,
            int(mine.sum()),
            present,
            len(np.unique(numbers[np.isfinite(numbers)])),
            None,
            numbers,
        )
    return found


def _kind_of_other(field: Field) -> str:
    return "beside the value of every message" if field.kind in NUMERIC else field.kind


def _no_feature(field: Field, group: Ints, times_ns: Ints, chosen: Chosen) -> str | None:
    """Why a field is no feature; None if it is one."""
    if field.kind not in NUMERIC or field.numbers is None:
        return {
            TEXT: f"text, {field.distinct} different",
            TIME: "another time",
            LIST: "a list; if it holds readings, say so with --readings",
            SWITCH: "true or false",
            NOTHING: "always empty",
        }.get(field.kind, f"{field.kind}: numbers are wanted")
    if field.times_ns is not None and (
        hint(field.name, words.TIME) or hint(field.name, words.ARRIVAL) or _near(field.times_ns, times_ns)
    ):
        return f"another time, in {field.unit}"
    if field.coverage < 0.02:
        return f"in {field.coverage:.1%} of the readings only"
    if field.distinct == 1:
        return f"constant: {np.nanmin(field.numbers):g}"
    if chosen.metric is None and _fixed(field, group):
        return "constant within every stream"
    if chosen.metric is None and _ticks_on(field, group, times_ns):
        return "grows by the same step every time, as a clock does"
    if field.whole and hint(field.name, words.IDENTIFIER) == 1.0:
        return "an identifier, by its name"
    if field.distinct == 2 and hint(field.name, words.LABEL):
        return "a flag or label, by its name"
    if field.whole and field.distinct > 0.95 * field.present > 20 and hint(field.name, words.IDENTIFIER):
        return "an identifier: every message has another"
    return None


def _near(times_ns: Ints, chosen_ns: Ints) -> bool:
    """Whether a field says about the same time as the one that was chosen."""
    both = (times_ns != NO_TIME) & (chosen_ns != NO_TIME)
    return bool(both.any()) and float(np.median(np.abs(times_ns[both] - chosen_ns[both]))) < _DAY_NS


def _ticks_on(field: Field, group: Ints, times_ns: Ints) -> bool:
    """Whether a number goes up by the same step from reading to reading, in the order of time."""
    assert field.numbers is not None
    now, before = consecutive(group, times_ns)
    steps = field.numbers[now] - field.numbers[before]
    steps = steps[np.isfinite(steps)]
    return len(steps) >= _STEPS and float(np.median(steps)) > 0 and bool((steps == np.median(steps)).mean() > 0.95)


def _fixed(field: Field, group: Ints) -> bool:
    """Every stream has one value of it, several streams have several."""
    assert field.numbers is not None
    now, before = consecutive(group)
    steps = field.numbers[now] - field.numbers[before]
    known = np.isfinite(steps)
    return bool(known.sum() >= 20 and not steps[known].any())


def _sequence(
    fields: Mapping[str, Field], group: Ints, stream: Ints, times_ns: Ints, used: set[str | None]
) -> Choice | None:
    """A number that goes up by one from message to message: in the order of arrival or, if some are late, of time."""
    orders = consecutive(group), consecutive(group, times_ns)
    whole = consecutive(stream, times_ns)
    for name, field in fields.items():
        if name in used or not field.whole or field.numbers is None or field.coverage < 0.98:
            continue
        if field.times_ns is not None or field.distinct < 20 or len(orders[0][0]) < 20:
            continue
        named = hint(name, words.SEQUENCE)
        steps = [field.numbers[now] - field.numbers[before] for now, before in (*orders, whole)]
        ones = max(float((some == 1).mean()) for some in steps)
        forward = max(float((some > 0).mean()) for some in steps)
        unique = len(np.unique(np.stack([stream, field.numbers]), axis=1).T) >= 0.98 * field.rows
        grows = unique and forward > 0.98 and min(float(np.median(some)) for some in steps) == 1
        if ones > 0.95 or (ones > 0.5 and (named or grows)):
            return Choice(name, f"a sequence number: {ones:.1%} of steps are +1")
        if named == 1.0 and forward > 0.98 and field.distinct == field.present:
            return Choice(name, "an identifier that grows with every message")
    return None


def _feature(field: Field, group: Ints, times_ns: Ints) -> Feature:
    numbers = field.numbers
    assert numbers is not None
    some = numbers[np.isfinite(numbers)]
    low, middle, high = (float(x) for x in np.quantile(some, (0.0, 0.5, 1.0)))
    says = [f"{low:g} to {high:g}, median {middle:g}"]
    counter = _counts(numbers, group, times_ns)
    if counter:
        says.append("only grows: a counter, taken by its rate")
    rest = some[some != 0]
    zeros = 1 - len(rest) / len(some)
    # Far from 0 otherwise, on one side, and in the same small range: what is 0 is not there.
    missing = (
        bool(0 < zeros < 0.9 and len(rest) > 20 and rest.min() > 0 and np.quantile(rest, 0.01) > 0.5 * np.median(rest))
        and not field.whole
    )
    if missing:
        says.append(f"{zeros:.1%} are 0, far from the rest: taken as missing")
    if field.coverage < 0.999:
        says.append(f"in {field.coverage:.1%} of readings")
    return Feature(field.name, "; ".join(says), counter, missing, field.coverage)


def _counts(numbers: NDArray[np.float64], group: Ints, times_ns: Ints) -> bool:
    """Whether values only ever grow in the order of time, a few falls to near 0 apart."""
    known = np.flatnonzero(np.isfinite(numbers))
    now, before = consecutive(group[known], times_ns[known])
    steps = numbers[known[now]] - numbers[known[before]]
    if len(steps) < _STEPS or numbers[known].min() < 0:
        return False
    falls = steps < 0
    resets = numbers[known[now]][falls] < 0.2 * numbers[known[before]][falls]
    grows = float((steps > 0).mean())
    return grows > 0.3 and bool(falls.mean() < 0.05) and (not falls.any() or float(resets.mean()) > 0.9)


def _kind(
    taken: Sequence[Feature], fields: Mapping[str, Field], chosen: Chosen
) -> tuple[str, str, Mapping[str, str] | None]:
    if chosen.metric is not None:
        return SENSOR_LONG, "one metric in each message", None
    names = [feature.name for feature in taken]
    bid, ask = _named(names, words.BID), _named(names, words.ASK)
    if bid and ask and _below(fields[bid], fields[ask]) and _may_be_ticks((bid, ask), chosen):
        roles = {"bid": bid, "ask": ask}
        for role, known in (("bid_size", words.BID_SIZE), ("ask_size", words.ASK_SIZE)):
            found = _named([name for name in names if name not in roles.values()], known)
            if found:
                roles[role] = found
        return QUOTES, f"{bid} is below {ask}: quotes", roles
    price = _named(names, words.PRICE)
    size = _named([name for name in names if name != price], words.SIZE)
    if (
        price
        and size
        and all(_positive(fields[name]) for name in (price, size))
        and _may_be_ticks((price, size), chosen)
    ):
        return TRADES, f"{price} and {size}, both above 0: trades", {"price": price, "size": size}
    return SENSOR, "several numbers in each message" if len(names) > 1 else "one number in each message", None


def _may_be_ticks(names: Sequence[str], chosen: Chosen) -> bool:
    """Names of one letter are prices and sizes only where streams are named as symbols are."""
    if all(len(name.rpartition(".")[2]) > 1 for name in names):
        return True
    return all(re.fullmatch(r"[A-Z0-9./:_-]{1,24}", name) for name in chosen.names)


def _named(names: Sequence[str], known: str) -> str | None:
    order = {word: place for place, word in enumerate(known.split())}
    found = [name for name in names if hint(name, known) == 1.0]
    return min(found, key=lambda name: order.get(name.rpartition(".")[2].lower(), len(order)), default=None)


def _below(bid: Field, ask: Field) -> bool:
    if bid.numbers is None or ask.numbers is None:
        return False
    bids, asks = bid.numbers[bid.numbers > 0], ask.numbers[ask.numbers > 0]  # a feed may send a side at a time
    if not len(bids) or not len(asks):
        return False
    low, high = float(np.median(bids)), float(np.median(asks))
    return low <= high < 1.25 * low


def _positive(field: Field) -> bool:
    return field.numbers is not None and bool((field.numbers[np.isfinite(field.numbers)] >= 0).all())
