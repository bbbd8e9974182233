"""Silence: streams that stopped sending, told as incidents.

intervals  how long each stream usually takes, and how long it may
clocks     the clocks of a partition
arrivals   a batch measured against both
watch      what is told of it
"""

from streamer.core.silence.watch import MANY, SilenceWatch

__all__ = ["MANY", "SilenceWatch"]
