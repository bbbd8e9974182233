"""Topics as people have them, as messages: seeded, of a few hundred readings each.

Not inside: a broker; what is made of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from streamer.offline.look.sampling import Message, Sample

START_S = 1_767_225_600  # 2026-01-01
Encode = Callable[[Any], bytes]


def delayed(rows: Sequence[Any], share: float = 0.08, by: int = 8, seed: int = 3) -> list[Any]:
    """The rows in another order: a share of them comes `by` rows later."""
    order = np.arange(len(rows)).astype(float)
    order[np.random.default_rng(seed).random(len(rows)) < share] += by
    return [rows[i] for i in np.argsort(order, kind="stable")]


def sample(values: Sequence[Any], *, encode: Encode = lambda one: json.dumps(one).encode(), **columns: Any) -> Sample:
    """Messages with these values, in one partition; `columns` are keys or headers of each."""
    messages = []
    for i, value in enumerate(values):
        more = {name: column[i] for name, column in columns.items()}
        body = value if isinstance(value, bytes) else encode(value)
        messages.append(Message(body, taken_ms=START_S * 1000 + 60_000 * i, offset=i, **more))
    return Sample("topic test", messages, len(messages))


def unkeyed(rows: Sequence[Any], partitions: int = 4) -> Sample:
    """Messages without keys, which go to partitions as it happens; read one partition after another."""
    chosen = np.random.default_rng(6).integers(partitions, size=len(rows)).tolist()
    messages = [
        replace(message, partition=partition, run=partition)
        for message, partition in zip(sample(rows).messages, chosen, strict=True)
    ]
    return Sample("topic test", sorted(messages, key=lambda one: one.partition), len(rows), partitions)


def iso(second: float) -> str:
    return datetime.fromtimestamp(START_S + second, UTC).isoformat()


def wave(rows: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.sin(2 * np.pi * np.arange(rows) / 24) + 0.1 * np.random.default_rng(seed).normal(size=rows)


def machines(rows: int = 150, streams: int = 3, **more: Any) -> list[dict[str, Any]]:
    """Wide: temperature and vibration of some machines, a reading a minute."""
    waves = {m: wave(rows, m) for m in range(streams)}
    return [
        {
            "device": f"press-{m}",
            "ts": iso(60 * i),
            "temperature": round(float(40 + 5 * m + 2 * waves[m][i]), 3),
            "vibration": round(float(1.5 + 0.2 * waves[m][i]), 4),
            "unit": "C",
            **more,
        }
        for i in range(rows)
        for m in range(streams)
    ]


def long_metrics(rows: int = 120, streams: int = 3) -> list[dict[str, Any]]:
    """Long: one metric per message, each with an interval of its own."""
    kinds = {"temperature": (60, 40.0, 2.0), "vibration": (60, 1.5, 0.2), "pressure": (120, 5.0, 0.3)}
    found = []
    for m in range(streams):
        for number, (name, (every, level, height)) in enumerate(kinds.items()):
            curve = wave(rows, 10 * m + number)
            for i in range(0, rows, every // 60):
                at = 60 * i + 3 * number + m
                found.append((at, f"pump-{m}", name, round(level + height * float(curve[i]), 4)))
    return [{"device": d, "metric": n, "value": v, "ts": (START_S + at) * 1000} for at, d, n, v in sorted(found)]


def trades(count: int = 900) -> list[dict[str, Any]]:
    """Trades of two symbols: several in one millisecond, at no interval."""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(1.5, count) * (rng.random(count) > 0.3))
    price = {"AIG": 49.0, "BAC": 14.0}
    found = []
    for at in times.tolist():
        symbol = "BAC" if rng.random() < 0.7 else "AIG"
        price[symbol] *= float(np.exp(rng.normal() * 2e-4))
        found.append(
            {
                "symbol": symbol,
                "timestamp": int((START_S + at) * 1000),
                "price": round(price[symbol], 2),
                "size": int(rng.integers(1, 20)) * 100,
                "exchange": "PQTN"[int(rng.integers(4))],
            }
        )
    return found


def quotes(count: int = 900) -> list[dict[str, Any]]:
    """Quotes: 0 where a side is missing."""
    rng = np.random.default_rng(2)
    found, middle, at = [], 14.0, 0.0
    for _ in range(count):
        at += float(rng.exponential(0.8))
        middle *= float(np.exp(rng.normal() * 1e-4))
        bid, ask = round(middle - 0.01, 2), round(middle + 0.01, 2)
        gone = rng.random()
        found.append(
            {
                "symbol": "BAC",
                "timestamp": iso(round(at, 3)),
                "bid": 0.0 if gone < 0.05 else bid,
                "bid_size": int(rng.integers(1, 50)) * 100,
                "ask": 0.0 if gone > 0.95 else ask,
                "ask_size": int(rng.integers(1, 50)) * 100,
            }
        )
    return found


def odd(rows: int = 120, streams: int = 2) -> Sample:
    """What no preset foresaw: nested MessagePack, German names, numbers as text, micros in a header."""
    values, headers = [], []
    for i in range(rows):
        for m in range(streams):
            curve = wave(rows, m)
            values.append(
                {
                    "anlage": {"kennung": f"Presse {m + 1}", "werk": "Süd"},
                    "messwerte": {
                        "öltemperatur": f"{40 + 3 * m + 2 * curve[i]:.2f}",
                        "druck": f"{5 + 0.4 * curve[i]:.3f}",
                    },
                    "zähler": 1000 + 7 * i + int(3 * curve[i] + 3),
                }
            )
            headers.append([("gemessen", str((START_S + 30 * i) * 1_000_000 + 17 * m).encode())])
    return sample(values, encode=msgspec.msgpack.encode, headers=headers)
