"""Who is told of an incident: rules, maintenance windows and a limit per stream, in event time alone.

options      what can be configured
matching     which incidents a rule is for
maintenance  when maintenance windows begin and end
deciding     one incident at one moment -> its severity, and whether and why it is muted
station      decisions of open incidents, kept with the state of their streams

A muted incident is scored, counted and written to the alerts topic; its alerts say what muted them, and whoever tells
people leaves them out. Pure. Not inside: which sink is told (`routing`), faults that need no model (`rules`).
"""

from streamer.core.notifying.deciding import Decider, Decision, Facts, Muted
from streamer.core.notifying.maintenance import Begins, Maintenance
from streamer.core.notifying.matching import Match
from streamer.core.notifying.options import Levels, NotifyingOptions, RateLimit, Rule
from streamer.core.notifying.station import Notifying

__all__ = [
    "Begins",
    "Decider",
    "Decision",
    "Facts",
    "Levels",
    "Maintenance",
    "Match",
    "Muted",
    "Notifying",
    "NotifyingOptions",
    "RateLimit",
    "Rule",
]
