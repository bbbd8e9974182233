"""Alerts: the message about one event of one incident, and its words.

    message     what is written to the alerts topic
    building    the alert of an event: severity, attribution, link
    sentences   the summary, one sentence
    words       times and lengths of time

Pure. Not inside: when an alert is due (`incidents`, `silence`), where it is sent (`sinks`).
"""

from streamer.core.alerts.building import attribute, build
from streamer.core.alerts.message import SCHEMA, Alert, Attribution, Rarity, Span
from streamer.core.alerts.words import duration, iso

__all__ = ["SCHEMA", "Alert", "Attribution", "Rarity", "Span", "attribute", "build", "duration", "iso"]
