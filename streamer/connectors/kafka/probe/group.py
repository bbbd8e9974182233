"""May we join the consumer group, and who is in it? Asked of its coordinator, without joining."""

from __future__ import annotations

import time

from kafka.protocol.admin import DescribeGroupsRequest
from kafka.protocol.find_coordinator import FindCoordinatorRequest

from streamer.connectors.kafka.probe.connection import Connection, Connections
from streamer.connectors.kafka.probe.metadata import NOT_REPORTED
from streamer.connectors.kafka.probe.report import Notes, Stop
from streamer.connectors.kafka.probe.topics import RETRY_S, error_name, granted

_TRANSIENT = (5, 14, 15, 16)  # leader or coordinator is being chosen
_NOT_AUTHORISED = 30


def check_group(group: str, first: Connection, connections: Connections, notes: Notes) -> frozenset[str] | None:
    """Note whether `group` may be joined; the ids of its members, None where the broker does not say."""
    members: frozenset[str] | None = None
    name = f"READ group {group}"
    coordinator_version = connections.version(first, FindCoordinatorRequest)
    version = connections.version(first, DescribeGroupsRequest)
    if coordinator_version is None:
        notes.permission("READ", "group", group, None)
        return None
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
            found_group = described.groups[0]
            code, permissions = found_group[0], frozenset(found_group[-1])
            members = None if code else frozenset(member[0] for member in found_group[5])
        if code not in _TRANSIENT or connections.left_s() == 0:
            break
        time.sleep(min(RETRY_S, connections.left_s()))  # the first group of a cluster waits for __consumer_offsets
    if code == _NOT_AUTHORISED:
        permissions = frozenset()
    elif code:
        notes.add(name, False, f"group {group} cannot be used: {error_name(code)}")
        return None
    notes.permission("READ", "group", group, granted("READ", permissions))
    return members
