"""Incidents that a sink was told of and that are open, for those it has to be told of again, or of whose end.

A function of the alerts before the offset committed: after a restart the topic is read back. Not inside: reading it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from streamer.connectors.alert_sinks import Incident
from streamer.core.alerts import Alert
from streamer.core.events import RESOLVE

MOST_OPEN = 5000
_MOST_SUMMARY = 1000


class Told:
    """Open incidents, the one that was told of longest ago first.

    Args:
        most: At most; the oldest are forgotten.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._open: OrderedDict[str, tuple[int, Incident]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, incident_id: str) -> bool:
        return incident_id in self._open

    def with_alert(self, alert: Alert, taken_s: float) -> Incident:
        """The incident as it is once this alert is told."""
        before = self._open.get(alert.incident_id)
        severities = before[1].severities if before else ()
        if alert.severity not in severities:
            severities = (*severities, alert.severity)
        return Incident(alert, severities, taken_s)

    def learn(self, partition: int, incident: Incident) -> list[str]:
        """It was told; which incidents had to be forgotten for it."""
        key = incident.alert.incident_id
        self._open.pop(key, None)
        if incident.alert.event == RESOLVE:
            return []
        # What is sent again needs neither all features nor all figures.
        alert = msgspec.structs.replace(
            incident.alert,
            features=incident.alert.features[:1],
            details={},
            summary=incident.alert.summary[:_MOST_SUMMARY],
        )
        self._open[key] = partition, Incident(alert, incident.severities, incident.taken_s)
        forgotten = []
        while len(self._open) > self._most:
            forgotten.append(self._open.popitem(last=False)[0])
        return forgotten

    def forget(self, incident_id: str) -> None:
        self._open.pop(incident_id, None)

    def incidents(self) -> Iterator[Incident]:
        """All of them."""
        yield from (incident for _, incident in self._open.values())

    def get(self, incident_id: str) -> Incident | None:
        found = self._open.get(incident_id)
        return found[1] if found else None

    def take(self, partition: int) -> list[Incident]:
        """Those of a partition, which are here no longer."""
        mine = [key for key, (where, _) in self._open.items() if where == partition]
        return [self._open.pop(key)[1] for key in mine]

    def put(self, partition: int, incidents: Iterable[Incident]) -> None:
        """Those of a partition, as `take` gave them."""
        for incident in incidents:
            self.learn(partition, incident)
