"""Plain connections to brokers, bounded in time, that say why one could not be made."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import BrokerConnection
from kafka import errors as kafka_errors
from kafka.conn import ConnectionStates
from kafka.protocol.metadata import MetadataRequest

from streamer.config import KafkaConfig
from streamer.connectors.kafka.kafka_python.options import connection_options
from streamer.connectors.kafka.probe.report import Fault, Notes, Stop
from streamer.connectors.kafka.reachability import connection_error
from streamer.connectors.kafka.tokens import NoToken

REFUSED = "authentication failed"


class Connection(BrokerConnection):  # type: ignore[misc]
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


class Connections:
    """Connections of one probe, made as they are needed, all within its time.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """

    def __init__(self, config: KafkaConfig, notes: Notes) -> None:
        self._config = config
        self._notes = notes
        self._options = connection_options(config)
        self._connections: dict[tuple[str, int], Connection] = {}
        # Last: reading certificates takes a while and is none of the broker's time.
        self._deadline_s = time.monotonic() + config.probe_timeout_s

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def left_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())

    def log_in(self) -> Connection:
        """Connect to the first bootstrap server that lets us in."""
        servers = [server.strip() for server in self._config.bootstrap_servers.split(",")]
        reasons: list[str] = []
        for number, server in enumerate(servers):
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit():
                reasons.append(f"kafka.bootstrap_servers must list host:port; got {server!r}")
                continue
            # A silent first server must leave time for the others.
            share_s = self.left_s() / (len(servers) - number)
            connection, reason = self.connect(host.strip("[]"), int(port), share_s)
            if connection is not None:
                self._notes.add("connection", True, f"connected to {server}{self._how()}")
                return connection
            reasons.append(reason)
            if reason.startswith(REFUSED):
                break  # the next server would say the same, and may lock the account
        refused = any(reason.startswith(REFUSED) for reason in reasons)
        fault = Fault.LOGIN_REFUSED if refused else Fault.BROKER_UNREACHABLE
        self._notes.add("connection", False, "; ".join(reasons), fault)
        raise Stop

    def _how(self) -> str:
        tls = " over TLS" if self._config.security_protocol.endswith("SSL") else ""
        return f" as {self._notes.who} with {self._config.sasl_mechanism}{tls}" if self._config.sasl_username else tls

    def connect(self, host: str, port: int, timeout_s: float) -> tuple[Connection | None, str]:
        """A connection that is logged in, or None and the reason in one sentence."""
        address = (host, port)
        if address in self._connections and self._connections[address].connected():
            return self._connections[address], ""
        deadline_s = time.monotonic() + timeout_s
        timeout_ms = max(1, round(timeout_s * 1000))
        connection = Connection(
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
                    if self.ask(connection, MetadataRequest, 1, ([],), deadline_s) is not None:
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
        connection.failure = failure  # what closing it adds is not the cause
        return None, explain_failure(self._config, f"{host}:{port}", connection, was_connected, timeout_s)

    def _wait_readable(self, connection: Connection) -> None:
        # TLS may hold bytes that the socket no longer shows, so never wait long.
        if connection.socket is not None and connection.socket.fileno() >= 0:
            select.select([connection.socket], [], [], 0.02)
        else:
            time.sleep(0.01)

    def ask(
        self,
        connection: Connection,
        request: Mapping[int, Any] | Sequence[Any],
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

    def version(self, connection: Connection, request: Mapping[int, Any] | Sequence[Any]) -> int | None:
        """The newest version of a request, given by version, that both sides know; None if there is none."""
        ours = list(request) if isinstance(request, Mapping) else range(len(request))
        known = connection.get_api_versions().get(request[ours[0]].API_KEY)
        return None if known is None else max((n for n in ours if known[0] <= n <= known[1]), default=None)


def explain_failure(config: KafkaConfig, server: str, connection: Connection, connected: bool, timeout_s: float) -> str:
    """Why `connection` came to nothing, in one sentence."""
    protocol, failure, phase = config.security_protocol, connection.failure, connection.phase
    if isinstance(failure, NoToken):
        return str(failure)
    who = f"for user {config.sasl_username!r}" if config.sasl_username else "for this client"
    if isinstance(failure, kafka_errors.SaslAuthenticationFailedError):
        return f"{REFUSED} {who} with {config.sasl_mechanism} at {server}; check " + (
            "the token" if config.by_token else "kafka.sasl_username and the password"
        )
    if isinstance(failure, kafka_errors.UnsupportedSaslMechanismError) or phase is ConnectionStates.AUTHENTICATING:
        # Refusing a mechanism, a broker hangs up at once, and kafka-python may miss what it said.
        return (
            f"{REFUSED} {who} with {config.sasl_mechanism} at {server}: the broker hung up, as when it does not offer "
            "this mechanism; check kafka.sasl_mechanism"
        )
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"the certificate of {server} is not trusted: {failure.verify_message}; set kafka.ssl_cafile to its CA"
    if isinstance(failure, ssl.SSLError) and _is_about_us(failure):
        have = f"got {config.ssl_certfile}" if config.ssl_certfile else "none is configured"
        return (
            f"{server} does not take our client certificate ({failure.reason}); check kafka.ssl_certfile, {have}, and "
            "which CA the broker trusts"
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


def _is_about_us(failure: ssl.SSLError) -> bool:
    """Whether the other side refused our certificate, or that we have none."""
    reason = str(failure.reason)
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)
