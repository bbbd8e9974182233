"""Rules that need no model: faults that every desk expects to be told of, each an incident of its own kind.

options        what is watched
ordered        readings of a batch, stream after stream
spells         a condition that lasts becomes an incident, with memory
book           crossed and locked books
power_of_ten   a price off by a power of ten
price_spike    a price far from those right before and after it
stale_quote    a quote that stands still while others move
sequence_gap   numbers that are missing
rules          all of them over the readings of a batch
"""

from streamer.core.rules.options import BookRule, PriceRule, QuoteRule, RulesOptions, SpikeRule
from streamer.core.rules.rules import Rules

__all__ = ["BookRule", "PriceRule", "QuoteRule", "Rules", "RulesOptions", "SpikeRule"]
