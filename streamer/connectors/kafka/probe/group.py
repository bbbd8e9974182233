"""May we join the consumer group? Asked of its coordinator, without joining."""

from __future__ import annotations

import time

from kafka.protocol.admin import DescribeGroupsRequest
from kafka.protocol.find_coordinator import FindCoordinatorRequest

from streamer.connectors.kafka.probe.connection import Connection, Connections
from streamer.connectors.kafka.probe.report import Notes, Stop
from streamer.connectors.kafka.probe.topics import NOT_REPORTED, RETRY_S, error_name, granted

_TRANSIENT = (5, 14, 15, 16)  # leader or coordinator is being chosen
_NOT_AUTHORISED = 30


def check_group(group: str, first: Connection, connections: Connections, notes: Notes) -> None:
    """Note whether `group` may be joined."""
    name = f"READ group {group}"
    coordinator_version = connections.version(first, FindCoordinatorRequest)
    version = connections.version(first, DescribeGroupsRequest)
    if coordinator_version is None:
        notes.permission("READ", "group", group, None)
        return
    while True:
        arguments = (group,) if coordinator_version == 0 else (group, 0)
        found = connections.ask(first, FindCoordinatorRequest, coordinator_version, arguments)
        if found is None:
            raise notes.late(name, "a request for the group's coordinator")
        code, permissions = found.error_code, NOT_REPORTED
        if code == 0:
            coordinator, reason = connections.connect(found.host, found.port, connections.left_s())
            if coordinator is None:
                notes.add(name, False, f"the coordinator of group {group} cannot be reached: {reason}")
                raise Stop
            if version is None or version < 3:
                break
            described = connections.ask(coordinator, DescribeGroupsRequest, version, ([group], True))
            if described is None:
                raise notes.late(name, "a request to describe the group")
            code, permissions = described.groups[0][0], frozenset(described.groups[0][-1])
        if code not in _TRANSIENT or connections.left_s() == 0:
            break
        time.sleep(min(RETRY_S, connections.left_s()))  # the first group of a cluster waits for __consumer_offsets
    if code == _NOT_AUTHORISED:
        permissions = frozenset()
    elif code:
        notes.add(name, False, f"group {group} cannot be used: {error_name(code)}")
        return
    notes.permission("READ", "group", group, granted("READ", permissions))
