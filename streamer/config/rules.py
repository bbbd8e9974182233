"""The section `rules`: faults that need no model."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamer.config.section import Duration, Section
from streamer.core.rules.options import BookRule, PriceRule, QuoteRule, RulesOptions, SpikeRule
from streamer.formats.nearest import did_you_mean

FieldName = Annotated[str, Field(min_length=1, max_length=256)]


class BookConfig(Section):
    """Bid above ask, or equal to it."""

    bid: FieldName = "bid"  # among records.features
    ask: FieldName = "ask"  # among records.features
    longer_than: Duration = 1.0  # moments shorter than this are not told


class PriceConfig(Section):
    """A price that is ten, a hundred, ... times its recent level, or such a part of it."""

    field: FieldName = "price"  # among records.features


class QuoteConfig(Section):
    """A quote that stands still while others of its partition move, or while it is sent again and again."""

    fields: Annotated[tuple[FieldName, ...], Field(min_length=1, max_length=16)] = ("bid", "ask")  # all unchanged
    after: Duration = 60.0  # for so long


class SpikeConfig(Section):
    """A price far from those right before and after it."""

    fields: Annotated[tuple[FieldName, ...], Field(min_length=1, max_length=16)] = ("price",)  # among records.features
    sigmas: Annotated[float, Field(ge=2, le=1000)] = 4.5  # how far, in standard deviations of one-minute returns


class RulesConfig(Section):
    """Faults that need no model, each an incident of its own kind."""

    crossed_book: BookConfig | None = None  # {bid: bid, ask: ask, longer_than: 1s}: crossed and locked books; none: off
    power_of_ten: PriceConfig | None = None  # {field: price}: a price ten or a hundred times its level; none: off
    stale_quote: QuoteConfig | None = None  # {fields: [bid, ask], after: 60s}: it stands while others move; none: off
    price_spike: SpikeConfig | None = None  # {fields: [price], sigmas: 4.5}: a price taken back at once; none: off
    sequence_gap: bool = False  # numbers of records.sequence that are missing

    def options(self, fields: tuple[str, ...], *, has_sequence: bool) -> RulesOptions:
        """What the rules need.

        Args:
            fields: Features of the records.
            has_sequence: Whether records have sequence numbers.

        Raises:
            ValueError: A rule names what the records do not have.
        """

        def column(key: str, name: str) -> int:
            if name not in fields:
                raise ValueError(
                    f"rules.{key}: wanted one of records.features {list(fields)}; got {name!r}"
                    f"{did_you_mean(name, fields)}"
                )
            return fields.index(name)

        if self.sequence_gap and not has_sequence:
            raise ValueError("rules.sequence_gap needs records.sequence: the field with the sequence number")
        book, price, quote, spike = self.crossed_book, self.power_of_ten, self.stale_quote, self.price_spike
        return RulesOptions(
            book=BookRule(
                column("crossed_book.bid", book.bid),
                column("crossed_book.ask", book.ask),
                round(book.longer_than * 1e9),
            )
            if book
            else None,
            price=PriceRule(column("power_of_ten.field", price.field), price.field) if price else None,
            quote=QuoteRule(
                tuple(column("stale_quote.fields", name) for name in quote.fields), round(quote.after * 1e9)
            )
            if quote
            else None,
            sequence=self.sequence_gap,
            spike=SpikeRule(
                tuple(column("price_spike.fields", name) for name in spike.fields),
                spike.sigmas,
                None if price is None else column("power_of_ten.field", price.field),
            )
            if spike
            else None,
        )
