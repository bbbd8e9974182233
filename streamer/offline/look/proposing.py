"""A `Look` -> the settings that fit it, each with what was seen.

Not inside: how they are written (`writing`). The presets under `examples/` are made the same way by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamer.core.durations import duration_text
from streamer.offline.look.features import QUOTES, SENSOR_LONG, TRADES
from streamer.offline.look.fields import NO_TIME, NUMBER_IN_TEXT
from streamer.offline.look.looking import Look
from streamer.offline.look.presets import Preset, calendar_of, preset
from streamer.offline.look.spans import NICE_S, nice, say

_PER_BAR = 2.0  # ticks of a stream in a bar, at least
_LATEST_S = 3600.0  # lateness that is proposed at most


@dataclass(frozen=True, slots=True)
class Setting:
    """One key, and what was seen that makes it so."""

    key: str
    value: Any
    seen: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the user has decided about time; None: found."""

    grid_s: float | None = None
    lateness_s: float | None = None
    preset: str | None = None


Proposal = Mapping[str, Sequence[Setting]]
"""Settings by section, in the order in which they are written."""


def propose(seen: Look, decided: Decided | None = None) -> Proposal:
    """The settings that fit what was seen."""
    decided = decided or Decided()
    kind = decided.preset or seen.features.kind
    grid_s, grid_why = _grid(seen, kind, decided)
    known = preset(kind)
    proposal = {
        "records": _records(seen),
        "files": _files(seen),
        "sessions": _sessions(seen, kind),
        "time": _time(seen, kind, grid_s, grid_why, decided),
        "window": _window(seen, grid_s, known),
    }
    if known is not None and seen.features.roles:
        rules: dict[str, Any] = dict(known.rules(seen.features.roles))
        if seen.features.sequence is not None:
            rules["sequence_gap"] = True
        proposal["rules"] = [Setting(name, value) for name, value in rules.items()]
        for section in ("model", "alerting"):
            proposal[section] = [Setting(name, value) for name, value in known.section(section).items()]
    return proposal


def _sessions(seen: Look, kind: str) -> list[Setting]:
    times = seen.times_ns
    found = calendar_of(times[times != NO_TIME]) if preset(kind) and seen.timing.readings else None
    return [] if found is None else [Setting("calendar", found[0], f"{found[1]}; leave it out if it has none")]


def plain(proposal: Proposal) -> dict[str, dict[str, Any]]:
    """The settings without what was seen."""
    return {name: {one.key: one.value for one in settings} for name, settings in proposal.items() if settings}


def _records(seen: Look) -> list[Setting]:
    chosen, features, recognised = seen.chosen, seen.features, seen.recognised
    if seen.sample.is_file:
        found = [Setting("format", "json", "of the messages of the topic, which were not looked at")]
    else:
        found = [Setting("format", recognised.format, recognised.why)]
    if not seen.sample.is_file and recognised.columns and not recognised.has_header:
        found.append(Setting("columns", list(recognised.columns), "made-up names: there is no header"))
    if not seen.sample.is_file and recognised.delimiter not in ("", ",") and recognised.format == "csv":
        found.append(Setting("delimiter", recognised.delimiter))
    if seen.rows.readings is not None and recognised.format not in ("influx", "csv", "tsv"):
        found.append(Setting("readings", seen.rows.readings, _several(seen)))
    if chosen.stream:
        names = f"{seen.timing.streams} seen, such as {', '.join(name for name, _ in seen.timing.largest[:3])}"
        stream = chosen.stream[0] if len(chosen.stream) == 1 else list(chosen.stream)
        found.append(Setting("stream", stream, f"{names}; {chosen.stream_why}"))
    if seen.joined:
        found.append(Setting("timestamp", "timestamp", "of the messages of the topic; for files, see below"))
    elif chosen.timestamp is not None:
        found.append(Setting("timestamp", chosen.timestamp, chosen.timestamp_why))
        found.append(Setting("timestamp_unit", chosen.timestamp_unit, _example(seen)))
    if chosen.metric is not None and chosen.value is not None:
        found.append(Setting("metric", chosen.metric.name, chosen.metric.why))
        found.append(Setting("value", chosen.value.name, chosen.value.why))
    if features.sequence is not None and features.kind in (TRADES, QUOTES):
        found.append(Setting("sequence", features.sequence.name, features.sequence.why))
    found.append(Setting("features", [feature.name for feature in features.taken]))
    if _text_numbers(seen):
        found.append(Setting("text_numbers", True, "numbers come as text"))
    zero = [feature.name for feature in features.taken if feature.zero_is_missing]
    why = "0 far from all other values"
    if features.kind == QUOTES and zero:
        zero, why = [feature.name for feature in features.taken], "a price or size of 0 is a side that is not there"
    if zero:
        found.append(Setting("zero_is_missing", zero, why))
    if chosen.metric is None and (zero or any(feature.coverage < 0.999 for feature in features.taken)):
        least = min(features.taken, key=lambda feature: feature.coverage)
        why = (
            f"{least.name} is in {least.coverage:.1%} of readings" if least.coverage < 0.999 else "see zero_is_missing"
        )
        found.append(Setting("missing", "fill", why))
    return found


def _files(seen: Look) -> list[Setting]:
    """How data files are written, where that is declared or must be."""
    written = seen.sample.written
    found: dict[str, Setting] = {}
    if seen.joined:
        found["timestamp"] = Setting("timestamp", list(seen.joined), f"{_example(seen)}; {seen.chosen.timestamp_why}")
    if any(field.thousands for field in seen.fields.values()):
        example = next(field.example for field in seen.fields.values() if field.thousands)
        found["decimal"] = Setting("decimal", ",")
        found["thousands"] = Setting("thousands", ".", f"numbers such as {example}")
    if written.encoding is not None:
        found["encoding"] = Setting("encoding", written.encoding, "the files are no UTF-8")
    for name in sorted(written.model_fields_set):
        value = getattr(written, name)
        if value not in (None, ()):
            found.setdefault(name, Setting(name, list(value) if isinstance(value, tuple) else value))
    return list(found.values())


def _text_numbers(seen: Look) -> bool:
    """Whether numbers are text in a format that has numbers."""
    if seen.recognised.format in ("csv", "tsv", "parquet"):
        return False
    names = [feature.name for feature in seen.features.taken] if seen.chosen.value is None else [seen.chosen.value.name]
    return any(seen.fields[name].kind == NUMBER_IN_TEXT for name in names if name in seen.fields)


def _several(seen: Look) -> str:
    return f"{len(seen.rows.rows) / max(1, len(seen.recognised.documents)):.3g} readings in a message"


def _example(seen: Look) -> str:
    field = {**seen.fields, **seen.pseudo}.get(str(seen.chosen.timestamp))
    return "" if field is None else f"such as {field.example}"


def _time(seen: Look, kind: str, grid_s: float, grid_why: str, decided: Decided) -> list[Setting]:
    lateness, why = _lateness(seen, decided)
    known = preset(kind)
    if known is not None and decided.lateness_s is None:
        lateness = max(lateness, known.lateness_s)
    found = [Setting("lateness", duration_text(lateness), why)]
    if not grid_s:
        return found
    found.append(Setting("grid", duration_text(grid_s), grid_why))
    often = [seen.metrics_s[feature.name] for feature in seen.features.taken if feature.name in seen.metrics_s]
    slowest = max(often, default=0.0) or seen.timing.slowest_s or 0.0
    if known is not None:
        rest = known.section("time").items()
        found += [Setting(name, value) for name, value in rest if name not in ("lateness", "grid", "features")]
    elif kind == SENSOR_LONG or slowest > grid_s:
        limit = min(1000, max(5, math.ceil(2 * slowest / grid_s)))
        why = f"steps for which a value that does not come is carried; the slowest comes every {say(slowest)}"
        found.append(Setting("gap_limit", limit, why))
    features = _expressions(seen, kind)
    if features:
        found.append(Setting("features", features))
    else:
        found.append(Setting("aggregate", "mean", "of the readings in one step"))
    return found


def _expressions(seen: Look, kind: str) -> dict[str, str]:
    """`time.features`: of ticks as their preset has them; of sensors only if there are counters."""
    roles = seen.features.roles or {}
    known = preset(kind)
    if known is not None and roles:
        return known.features(roles)
    if any(feature.counter for feature in seen.features.taken):
        return {
            feature.name: f"last({feature.name}) | rate" if feature.counter else f"mean({feature.name})"
            for feature in seen.features.taken
        }
    return {}


def _grid(seen: Look, kind: str, decided: Decided) -> tuple[float, str]:
    """Seconds of a step of the grid, and why; 0 for none."""
    timing = seen.timing
    if decided.grid_s is not None:
        return decided.grid_s, "as you said"
    usual = timing.interval_s
    if usual is None:
        return 0.0, ""
    known = preset(kind)
    if known is not None:
        span_s = max(1e-9, (timing.last_ns - timing.first_ns) / 1e9)
        # Of a sample from several places, the span is that of all places, the readings only those looked at.
        share = min(1.0, len(seen.sample.messages or seen.rows.rows) / max(1, seen.sample.total))
        a_second = timing.per_stream[1] / share / span_s
        grids = [grid for grid in NICE_S if grid >= known.grid_s]
        grid = next((grid for grid in grids if a_second * grid >= _PER_BAR), 900)
        return float(grid), f"ticks come when they come: about {a_second * grid:.3g} of a stream in a bar"
    if kind == SENSOR_LONG:
        return nice(usual), f"each metric of a stream comes every {say(usual)}, with times of its own"
    if not timing.regular and seen.split is None:  # of parts of streams, steps are as they happened to be split
        low, high = dict(timing.interval_quantiles_s)[0.1], dict(timing.interval_quantiles_s)[0.9]
        return nice(usual), f"irregular: usually {say(usual)}, from {say(low)} to {say(high)} (10 % to 90 %)"
    if timing.same_time > 0.01:
        return nice(usual), f"{timing.same_time:.1%} of readings have the time of another one of their stream"
    if any(feature.counter for feature in seen.features.taken):
        return nice(usual), "the rate of a counter is that of a step"
    return 0.0, ""


def _lateness(seen: Look, decided: Decided) -> tuple[float, str]:
    timing = seen.timing
    if decided.lateness_s is not None:
        return decided.lateness_s, "as you said"
    if not timing.late:
        return 0.0, f"none of {timing.readings} readings was older than its stream's newest"
    worst, most = timing.lateness_s(1.0), timing.lateness_s(0.99)
    seen_late = f"{timing.late:.1%} of readings are late, half of them by {say(timing.lateness_s(0.5))}"
    if worst > _LATEST_S:
        held = next((q for q in (0.999, 0.99, 0.9, 0.5) if timing.lateness_s(q) <= _LATEST_S), None)
        if held is None:
            return 0.0, f"{seen_late}, more than it pays to wait for: they are left out"
        return _above(timing.lateness_s(held)), f"{seen_late}, the latest by {say(worst)}: those are left out"
    return _above(1.2 * worst), f"{seen_late}, 99 % by at most {say(most)}, the latest by {say(worst)}"


def _above(seconds: float) -> float:
    """A duration that people would write, a little above a measured one.

    >>> [_above(measured) for measured in (0.3, 3.2, 41.0, 144.0, 1500.0)]
    [1, 4, 45, 150, 1500]
    """
    step = next((step for below, step in ((10, 1), (60, 5), (600, 30)) if seconds < below), 300)
    return step * math.ceil(seconds / step)


def _window(seen: Look, grid_s: float, known: Preset | None) -> list[Setting]:
    """Shorter windows where there is little to train on."""
    timing = seen.timing
    step = grid_s or timing.interval_s or 0.0
    steps = (timing.last_ns - timing.first_ns) / 1e9 / step if step else float(timing.per_stream[1])
    unit = f"steps of {say(grid_s)}" if grid_s else "readings"
    lengths = [(64, 8, 500), (32, 4, 200)]
    if known is not None and known.section("window"):
        lengths[0] = (known.section("window")["length"], known.section("window")["patch"], 500)
    for length, patch, least in lengths:
        if steps >= least:
            return [
                Setting("length", length, f"{unit}; about {steps:.0f} of each stream seen"),
                Setting("patch", patch),
            ]
    return [
        Setting("length", 16, f"{unit}; only about {steps:.0f} of each stream seen: take 64 when there are more"),
        Setting("patch", 4),
    ]
