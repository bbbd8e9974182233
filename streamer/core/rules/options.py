"""What the rules watch; fields are columns of the readings as sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BookRule:
    """Crossed and locked books."""

    bid: int
    ask: int
    longer_than_ns: int


@dataclass(frozen=True, slots=True)
class PriceRule:
    """A price off by a power of ten."""

    field: int
    name: str


@dataclass(frozen=True, slots=True)
class SpikeRule:
    """A price far from those right before and after it."""

    fields: tuple[int, ...]
    sigmas: float
    slips: int | None = None  # field of which `PriceRule` tells jumps by a power of ten


@dataclass(frozen=True, slots=True)
class QuoteRule:
    """A quote that stands still while others move."""

    fields: tuple[int, ...]
    after_ns: int


@dataclass(frozen=True, slots=True)
class RulesOptions:
    """Those that are on."""

    book: BookRule | None = None
    price: PriceRule | None = None
    quote: QuoteRule | None = None
    sequence: bool = False
    spike: SpikeRule | None = None

    @property
    def active(self) -> bool:
        return bool(self.book or self.price or self.quote or self.spike or self.sequence)
