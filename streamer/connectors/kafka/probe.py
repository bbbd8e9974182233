"""Prove, before anything is read, that the broker lets us do all we shall need.

Inside: one bounded series of questions over plain connections: can we connect and
log in, are the topics there, may we read, write and join the group. Nothing is
written, no group is joined. Not inside: the clients that do the work later.

It exists because a Kafka client with a wrong password looks like a quiet topic:
kafka-python's `poll` returns nothing, for ever, and raises nothing. `KafkaAdminClient`
is not used as most of its calls have no bound in time.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kafka import BrokerConnection
from kafka import errors as kafka_errors
from kafka.conn import ConnectionStates
from kafka.protocol.admin import CreateTopicsRequest, DescribeGroupsRequest
from kafka.protocol.find_coordinator import FindCoordinatorRequest
from kafka.protocol.metadata import MetadataRequest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.kafka_python.options import connection_options
from streamer.connectors.kafka.reachability import connection_error

READ, WRITE = 3, 4  # bits of Kafka's authorised-operations field
_NOT_REPORTED = frozenset({31})  # the field's value -2^31: the broker does not know
_RETRY_S = 0.05
_TRANSIENT = (5, 14, 15, 16)  # leader or coordinator is being chosen


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One thing asked; `ok` is None where the broker cannot say."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What was asked, in order, and what came out."""

    steps: tuple[ProbeStep, ...]

    @property
    def ok(self) -> bool:
        """True if nothing was refused; steps that cannot be determined do not count."""
        return bool(self.steps) and all(step.ok is not False for step in self.steps)

    @property
    def reason(self) -> str | None:
        """The first thing that is wrong, in one sentence; None if nothing is."""
        return next((step.detail for step in self.steps if step.ok is False), None)


class _Stop(Exception):
    """A step failed so that the later ones cannot be asked."""


class _Connection(BrokerConnection):  # type: ignore[misc]
    """Remembers why it was closed, which kafka-python only logs, and which socket it uses."""

    def __init__(self, host: str, port: int, afi: int, **options: Any) -> None:
        self.failure: BaseException | None = None
        self.phase: object = None  # what the connection was about when it failed
        self.unreadable = 0  # answers that are not Kafka's
        self.socket: socket.socket | None = None
        super().__init__(host, port, afi, state_change_callback=self._remember_socket, **options)

    def _remember_socket(self, _node_id: object, sock: socket.socket | None, _connection: object) -> None:
        self.socket = sock

    def close(self, error: BaseException | None = None) -> None:
        if error is not None and self.failure is None:
            self.failure, self.phase = error, self.state
        self.unreadable += isinstance(error, kafka_errors.KafkaProtocolError)
        super().close(error)


def probe(config: KafkaConfig, *, create_missing: bool) -> ProbeReport:
    """Ask everything within `config.probe_timeout_s`; never raises for what the broker does.

    Args:
        config: What to prove.
        create_missing: Make topics that are missing, with the broker's default partitions.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """
    work = _Probe(config, create_missing)
    # A name server that does not answer blocks getaddrinfo, which has no timeout of its own: hence the thread.
    thread = threading.Thread(target=work.run, name="probe", daemon=True)
    thread.start()
    thread.join(config.probe_timeout_s + 0.5)
    steps = tuple(work.steps)
    if work.crash is not None:
        raise work.crash
    if thread.is_alive():
        late = f"no answer from {config.bootstrap_servers} within {config.probe_timeout_s:g} s"
        steps = (*steps, ProbeStep("time", False, f"{late}; is the name server working?"))
    return ProbeReport(steps)


class _Probe:
    """One run of the questions."""

    def __init__(self, config: KafkaConfig, create_missing: bool) -> None:
        self.steps: list[ProbeStep] = []
        self.crash: BaseException | None = None
        self._config = config
        self._create_missing = create_missing
        self._options = connection_options(config)
        self._connections: dict[tuple[str, int], _Connection] = {}
        self._who = f"user {config.sasl_username!r}" if config.sasl_username else "this client"
        outputs = [config.alerts_topic, config.dlq_topic] + ([config.scores_topic] if config.scores_topic else [])
        self._needs = {config.topic: READ} | dict.fromkeys(outputs, WRITE)
        # Last: reading certificates takes a while and is none of the broker's time.
        self._deadline_s = time.monotonic() + config.probe_timeout_s

    def run(self) -> None:
        try:
            first = self._log_in()
            brokers, topics = self._find_topics(first)
            self._reach_leaders(brokers, topics)
            self._check_topic_rights(topics)
            self._check_group(first)
        except _Stop:
            pass
        except BaseException as error:
            self.crash = error
        finally:
            for connection in self._connections.values():
                connection.close()

    def _note(self, name: str, ok: bool | None, detail: str) -> None:
        self.steps.append(ProbeStep(name, ok, detail))

    def _left_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())

    # Connection.

    def _log_in(self) -> _Connection:
        """Connect to the first bootstrap server that lets us in."""
        servers = [server.strip() for server in self._config.bootstrap_servers.split(",")]
        reasons: list[str] = []
        for number, server in enumerate(servers):
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit():
                reasons.append(f"kafka.bootstrap_servers must list host:port; got {server!r}")
                continue
            # A silent first server must leave time for the others.
            share_s = self._left_s() / (len(servers) - number)
            connection, reason = self._connect(host.strip("[]"), int(port), share_s)
            if connection is not None:
                self._note("connection", True, f"connected to {server}{self._how()}")
                return connection
            reasons.append(reason)
            if reason.startswith("authentication failed"):
                break  # the next server would say the same, and may lock the account
        self._note("connection", False, "; ".join(reasons))
        raise _Stop

    def _how(self) -> str:
        tls = " over TLS" if self._config.security_protocol.endswith("SSL") else ""
        return f" as {self._who} with {self._config.sasl_mechanism}{tls}" if self._config.sasl_username else tls

    def _connect(self, host: str, port: int, timeout_s: float) -> tuple[_Connection | None, str]:
        """A connection that is logged in, or None and the reason in one sentence."""
        address = (host, port)
        if address in self._connections and self._connections[address].connected():
            return self._connections[address], ""
        deadline_s = time.monotonic() + timeout_s
        timeout_ms = max(1, round(timeout_s * 1000))
        connection = _Connection(
            host,
            port,
            socket.AF_UNSPEC,
            **self._options | {"request_timeout_ms": timeout_ms, "api_version_auto_timeout_ms": 2 * timeout_ms},
        )
        try:
            while time.monotonic() < deadline_s:
                connection.connect()
                if connection.connected():
                    # A broker that wants a login accepts the connection and hangs up at the first real request.
                    if self._ask(connection, MetadataRequest, 1, ([],), deadline_s) is not None:
                        self._connections[address] = connection
                        return connection, ""
                    break
                # Brokers that do not know the newest ApiVersions request give an answer that cannot be read, and are
                # asked again in the old way; every other failure is final.
                if connection.connect_failed() and connection.unreadable != 1:
                    break
                self._wait_readable(connection)
        except Exception as error:  # TLS errors and refused mechanisms come as exceptions, the rest through close()
            connection.failure = connection.failure or error
        was_connected, failure = connection.connected(), connection.failure
        connection.close()
        return None, self._say_failure(f"{host}:{port}", failure, connection.phase, was_connected, timeout_s)

    def _say_failure(
        self, server: str, failure: BaseException | None, phase: object, connected: bool, timeout_s: float
    ) -> str:
        protocol = self._config.security_protocol
        if isinstance(failure, kafka_errors.SaslAuthenticationFailedError):
            return (
                f"authentication failed for user {self._config.sasl_username!r} with {self._config.sasl_mechanism} at "
                f"{server}; check kafka.sasl_username and the password"
            )
        if isinstance(failure, kafka_errors.UnsupportedSaslMechanismError) or phase is ConnectionStates.AUTHENTICATING:
            # Refusing a mechanism, a broker hangs up at once, and kafka-python may miss what it said.
            return (
                f"authentication failed for user {self._config.sasl_username!r} with {self._config.sasl_mechanism} at "
                f"{server}: the broker hung up, as when it does not offer this mechanism; check kafka.sasl_mechanism"
            )
        if isinstance(failure, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {server} is not trusted: {failure.verify_message}; set kafka.ssl_cafile to its CA"
            )
        if isinstance(failure, ssl.SSLError):
            return f"TLS with {server} failed: {failure.reason or failure}; is this a TLS listener? got {protocol}"
        if (
            failure is None
            or isinstance(failure, (kafka_errors.RequestTimedOutError, TimeoutError))
            or "timeout" in str(failure)
        ):
            return (
                f"no answer from {server} within {round(timeout_s, 1):g} s: something accepts the connection and does "
                "not answer as Kafka; check the port and kafka.security_protocol"
            )
        text = str(failure)
        if "ECONNREFUSED" in text:
            return f"no connection to {server}: refused; is the broker running there? check kafka.bootstrap_servers"
        if "DNS" in text:
            return f"no connection to {server}: the name does not resolve; check kafka.bootstrap_servers"
        if connected or "disconnected" in text or "reset" in text.lower() or "closed by server" in text:
            return (
                f"{server} accepted the connection and hung up: it speaks another protocol than {protocol}; check "
                "kafka.security_protocol (a TLS port needs SSL or SASL_SSL, a port with a login SASL_...)"
            )
        if isinstance(failure, kafka_errors.KafkaProtocolError):
            return f"{server} answers, but not as Kafka with {protocol}: {text}; check kafka.security_protocol"
        return f"no connection to {server}: {connection_error(failure)}"

    def _wait_readable(self, connection: _Connection) -> None:
        # TLS may hold bytes that the socket no longer shows, so never wait long.
        if connection.socket is not None and connection.socket.fileno() >= 0:
            select.select([connection.socket], [], [], 0.02)
        else:
            time.sleep(0.01)

    def _ask(
        self,
        connection: _Connection,
        request: list[Any],
        version: int,
        arguments: tuple[Any, ...],
        deadline_s: float | None = None,
    ) -> Any:
        """The broker's answer, or None if the connection broke or time is over."""
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        future = connection.send(request[version](*arguments))
        while not future.is_done and time.monotonic() < deadline_s and connection.connected():
            for response, answered in connection.recv():
                answered.success(response)
            if not future.is_done:
                self._wait_readable(connection)
        return future.value if future.succeeded() else None

    def _version(self, connection: _Connection, request: list[Any]) -> int | None:
        """The newest version of a request that both sides know; None if the broker knows none."""
        known = connection.get_api_versions().get(request[0].API_KEY)
        if known is None or known[0] >= len(request):
            return None
        return min(int(known[1]), len(request) - 1)

    def _late(self, name: str, what: str) -> _Stop:
        self._note(
            name, False, f"no answer to {what} within {self._config.probe_timeout_s:g} s; is the broker overloaded?"
        )
        return _Stop()

    # Topics.

    def _find_topics(self, connection: _Connection) -> tuple[dict[int, tuple[str, int]], dict[str, Any]]:
        """Brokers by id and the metadata of each topic that is there; missing ones are noted."""
        asked_to_create: set[str] = set()
        while True:
            brokers, controller, topics = self._metadata(connection)
            missing = [name for name in self._needs if topics[name][0] == 3]
            if self._create_missing and (new := [name for name in missing if name not in asked_to_create]):
                asked_to_create.update(new)
                self._create(brokers, controller, connection, new)
                continue
            unsettled = [
                name
                for name in self._needs
                if topics[name][0] == 5
                or (name in asked_to_create and topics[name][0] == 3)
                or any(part[0] == 5 for part in topics[name][1])
            ]
            if not unsettled or self._left_s() == 0:
                break
            time.sleep(min(_RETRY_S, self._left_s()))
        for name, need in self._needs.items():
            code, partitions, _ = topics[name]
            role = "read from" if need == READ else "write to"
            if code == 0 and name not in unsettled:
                made = " (made now)" if name in asked_to_create else ""
                count = f"{len(partitions)} partition{'' if len(partitions) == 1 else 's'}"
                self._note(f"topic {name}", True, f"topic {name} has {count}{made}")
            elif code == 3:
                self._note(
                    f"topic {name}",
                    False,
                    f"topic {name}, to {role}, does not exist; create it or set kafka.create_topics: true",
                )
            elif code == 29:
                right = "READ" if need == READ else "WRITE"
                self._note(
                    f"topic {name}", False, f"{self._who} may not see topic {name}; {self._grant(right, 'topic', name)}"
                )
            elif name in unsettled:
                self._note(f"topic {name}", False, f"topic {name} has partitions without a leader; is a broker down?")
            else:
                self._note(f"topic {name}", False, f"topic {name} cannot be used: {_error_name(code)}")
        return brokers, {name: found for name, found in topics.items() if found[0] == 0}

    def _metadata(self, connection: _Connection) -> tuple[dict[int, tuple[str, int]], int, dict[str, Any]]:
        version = self._version(connection, MetadataRequest)
        arguments: tuple[Any, ...] = (list(self._needs),)
        if version is not None and version >= 4:
            arguments += (False,)  # asking must not create
        if version is not None and version >= 8:
            arguments += (False, True)
        response = None if version is None else self._ask(connection, MetadataRequest, version, arguments)
        if response is None:
            raise self._late("topics", "a metadata request")
        brokers = {broker[0]: (broker[1], broker[2]) for broker in response.brokers}
        topics: dict[str, Any] = {name: (3, [], None) for name in self._needs}
        for topic in response.topics:
            rights = frozenset(topic[4]) if len(topic) > 4 else _NOT_REPORTED
            topics[topic[1]] = (topic[0], topic[3], rights)
        return brokers, getattr(response, "controller_id", -1), topics

    def _create(
        self, brokers: dict[int, tuple[str, int]], controller: int, connection: _Connection, names: list[str]
    ) -> None:
        version = self._version(connection, CreateTopicsRequest)
        if version is None:
            # The embedded broker knows no CreateTopics; there, being asked for a topic by name makes it.
            known = self._version(connection, MetadataRequest)
            if known is not None and known >= 4:
                self._ask(connection, MetadataRequest, 4, (names, True))
            return
        if controller in brokers:
            found, _ = self._connect(*brokers[controller], self._left_s())
            connection = found or connection
        for partitions, replicas in ((-1, -1), (1, 1)):  # the broker's defaults; explicit for one before 2.4
            topics: list[Any] = [(name, partitions, replicas, [], []) for name in names]
            timeout_ms = max(1, round(self._left_s() * 1000))
            arguments = (topics, timeout_ms) if version == 0 else (topics, timeout_ms, False)
            response = self._ask(connection, CreateTopicsRequest, version, arguments)
            if response is None:
                raise self._late("topics", "a request to create topics")
            codes = {error[0]: error[1] for error in response.topic_errors}
            for name, code in codes.items():
                if code in (29, 31):
                    self._note(
                        f"create {name}",
                        False,
                        f"{self._who} may not create topic {name}: make it or {self._grant('CREATE', 'topic', name)}",
                    )
                elif code not in (0, 36, 37, 38):
                    self._note(f"create {name}", False, f"topic {name} cannot be created: {_error_name(code)}")
            names = [name for name, code in codes.items() if code in (37, 38)]
            if not names:
                return

    def _reach_leaders(self, brokers: dict[int, tuple[str, int]], topics: dict[str, Any]) -> None:
        """The address a broker advertises is often not the one that works; that shows only here."""
        leaders = sorted({part[2] for found in topics.values() for part in found[1] if part[2] in brokers})
        for node in leaders:
            connection, reason = self._connect(*brokers[node], self._left_s())
            if connection is None:
                self._note(
                    f"broker {node}",
                    False,
                    f"broker {node} leads partitions of our topics and advertises (advertised.listeners) "
                    f"{brokers[node][0]}:{brokers[node][1]}: {reason}",
                )
                raise _Stop
        if leaders:
            self._note("brokers", True, f"every broker that leads a partition of ours answers ({len(leaders)})")

    # Rights.

    def _check_topic_rights(self, topics: dict[str, Any]) -> None:
        for name, (_, _, rights) in topics.items():
            need = self._needs.get(name)
            if need is not None:
                self._note_right("READ" if need == READ else "WRITE", "topic", name, need, rights)

    def _note_right(self, right: str, kind: str, name: str, bit: int, rights: Iterable[int]) -> None:
        step = f"{right} {kind} {name}"
        if rights == _NOT_REPORTED:
            self._note(step, None, f"{right} on {kind} {name} is not determinable: this broker does not report rights")
        elif bit in rights:
            self._note(step, True, f"{self._who} has {right} on {kind} {name}")
        else:
            self._note(step, False, f"{self._who} has no {right} on {kind} {name}; {self._grant(right, kind, name)}")

    def _grant(self, right: str, kind: str, name: str) -> str:
        user = self._config.sasl_username or "ANONYMOUS"
        return f"run kafka-acls --add --allow-principal User:{user} --operation {right.title()} --{kind} {name}"

    def _check_group(self, connection: _Connection) -> None:
        group = self._config.group
        name = f"READ group {group}"
        unknown = (name, None, f"READ on group {group} is not determinable: this broker does not report rights")
        coordinator_version = self._version(connection, FindCoordinatorRequest)
        version = self._version(connection, DescribeGroupsRequest)
        if coordinator_version is None:
            self._note(*unknown)
            return
        while True:
            arguments = (group,) if coordinator_version == 0 else (group, 0)
            found = self._ask(connection, FindCoordinatorRequest, coordinator_version, arguments)
            if found is None:
                raise self._late(name, "a request for the group's coordinator")
            code, rights = found.error_code, _NOT_REPORTED
            if code == 0:
                coordinator, reason = self._connect(found.host, found.port, self._left_s())
                if coordinator is None:
                    self._note(name, False, f"the coordinator of group {group} cannot be reached: {reason}")
                    raise _Stop
                if version is None or version < 3:
                    self._note(*unknown)
                    return
                described = self._ask(coordinator, DescribeGroupsRequest, version, ([group], True))
                if described is None:
                    raise self._late(name, "a request to describe the group")
                code, rights = described.groups[0][0], frozenset(described.groups[0][-1])
            if code not in _TRANSIENT or self._left_s() == 0:
                break
            time.sleep(min(_RETRY_S, self._left_s()))  # the first group of a cluster waits for __consumer_offsets
        if code == 30:
            rights = frozenset()
        elif code:
            self._note(name, False, f"group {group} cannot be used: {_error_name(code)}")
            return
        self._note_right("READ", "group", group, READ, rights)


def _error_name(code: int) -> str:
    return f"{kafka_errors.for_code(code).__name__} ({code})"
