"""Options of the event-time station, and the expressions that say how a feature is made of a bar.

    last(price) | log_return        an aggregation of fields, then a transform
    quantile(latency, 0.95)
    vwap(price, size)
    count | log1p

Not inside: how they are computed (`aggregates`, `transforms`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Name -> how many fields it takes, and whether a number follows.
AGGREGATES: dict[str, tuple[int, bool]] = {
    "last": (1, False),
    "first": (1, False),
    "mean": (1, False),
    "min": (1, False),
    "max": (1, False),
    "sum": (1, False),
    "count": (0, False),
    "median": (1, False),
    "quantile": (1, True),
    "std": (1, False),
    "range": (1, False),
    "jump": (1, False),
    "reversal": (1, False),
    "age": (1, False),
    "vwap": (2, False),
    "volatility": (1, False),
    "mid": (2, False),
    "spread": (2, False),
    "imbalance": (2, False),
}
ZERO_WHEN_EMPTY = frozenset({"sum", "count", "std", "range", "jump", "reversal", "volatility"})
TRANSFORMS = ("none", "diff", "log_return", "log1p", "rate")

_EXPRESSION = re.compile(r"^\s*(\w+)\s*(?:\(([^()|]*)\))?\s*(?:\|\s*(\w+)\s*)?$")


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of the model, made of the readings of a bar."""

    name: str
    aggregate: str
    fields: tuple[int, ...]  # columns of the readings as sent
    number: float = 0.0  # quantile: which
    transform: str = "none"


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """What becomes of readings between decoding and windows."""

    fields: tuple[str, ...] = ()  # features of the readings as sent
    lateness_ns: int = 0
    grid_ns: int = 0  # interval of a bar; 0: none
    bars: str = "time"  # or ticks, volume
    bar_size: float = 0.0
    bar_field: int = 0
    features: tuple[Feature, ...] = ()  # of the bars; none: readings pass as they are
    gap: str = "carry"
    gap_limit: int = 10  # bars
    max_held: int = 100_000  # readings of a stream
    correct: bool = False  # late readings of recent bars correct them
    zero_is_missing: tuple[int, ...] = ()
    context: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether readings are held back before they reach the windows."""
        return bool(self.lateness_ns or self.features)


def parse_feature(name: str, expression: str, fields: Sequence[str]) -> Feature:
    """A feature from its expression.

    Raises:
        ValueError: It is none; says what was wanted.

    >>> parse_feature("return", "last(price) | log_return", ["price", "size"])
    Feature(name='return', aggregate='last', fields=(0,), number=0.0, transform='log_return')
    """
    found = _EXPRESSION.match(expression)
    if not found:
        raise ValueError(
            f"time.features.{name}: wanted an expression such as `last(price) | log_return`; got {expression!r}"
        )
    aggregate, inside, transform = found[1], found[2], found[3] or "none"
    arguments = [part.strip() for part in (inside or "").split(",") if part.strip()]
    if aggregate not in AGGREGATES:
        raise ValueError(f"time.features.{name}: wanted an aggregation of {', '.join(AGGREGATES)}; got {aggregate!r}")
    if transform not in TRANSFORMS:
        raise ValueError(f"time.features.{name}: wanted a transform of {', '.join(TRANSFORMS)}; got {transform!r}")
    count, has_number = AGGREGATES[aggregate]
    number = 0.0
    if has_number and len(arguments) == count + 1:
        try:
            number = float(arguments.pop())
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise ValueError(f"time.features.{name}: {aggregate} wants a number from 0 to 1; got {expression!r}")
    elif has_number:
        raise ValueError(f"time.features.{name}: wanted {aggregate}(field, number); got {expression!r}")
    if aggregate == "age" and arguments:
        count = len(arguments)
    if aggregate == "count" and not arguments:
        return Feature(name, aggregate, (), number, transform)
    if len(arguments) != max(count, 1):
        raise ValueError(f"time.features.{name}: {aggregate} takes {count} field(s); got {expression!r}")
    unknown = [argument for argument in arguments if argument not in fields]
    if unknown:
        raise ValueError(
            f"time.features.{name}: wanted fields among records.features {list(fields)}; got {unknown[0]!r}"
        )
    return Feature(name, aggregate, tuple(list(fields).index(argument) for argument in arguments), number, transform)
