"""Kafka brokers for tests, and the few things tests do with them directly.

The first that is there is taken: `KAFKA_BOOTSTRAP_SERVERS` (yours, plaintext),
`KAFKA_HOME` (a Kafka distribution: one real KRaft node is started), a Docker engine
(the official image through testcontainers), else the embedded broker.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    NewPartitions,
    NewTopic,
    ResourcePattern,
    ResourceType,
)

from streamer.config import KafkaConfig
from streamer.connectors.kafka.embedded import EmbeddedBroker
from streamer.connectors.kafka.kafka_python.asking import persistently

START_TIMEOUT_S = 120.0
DOCKER_IMAGE = "apache/kafka:4.1.1"  # as in docker-compose.yml


class Broker(Protocol):
    """What a test may ask of whichever broker was chosen."""

    kind: str  # "yours", "kafka", "docker" or "embedded"
    bootstrap_servers: str
    min_session_ms: int  # shortest session timeout it grants a group member

    def create_topic(self, name: str, partitions: int = 1) -> None: ...

    def add_partitions(self, topic: str, total: int) -> None:
        """Give a topic more partitions; `NotImplementedError` if the broker cannot."""
        ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None: ...

    def down(self) -> None:
        """Vanish without a word, as after a power cut; `NotImplementedError` if the broker is not ours to stop."""
        ...

    def up(self) -> None:
        """Come back with all acknowledged records; returns when connections are answered."""
        ...

    def stop(self) -> None: ...


class _Admin:
    """The part of a real broker that is done over the wire."""

    kind: str
    bootstrap_servers: str
    min_session_ms = 6_000  # group.min.session.timeout.ms as Kafka ships

    def create_topic(self, name: str, partitions: int = 1) -> None:
        with self._admin() as admin:
            with contextlib.suppress(
                kafka_errors.TopicAlreadyExistsError
            ):  # made by an attempt whose connection was lost
                persistently(lambda: admin.create_topics([NewTopic(name, partitions, 1)], timeout_ms=10_000))
            # The controller has it; the broker that clients ask learns of it a moment later.
            deadline_s = time.monotonic() + 10
            while not _has_leaders(persistently(lambda: admin.describe_topics([name]))[0]):
                if time.monotonic() > deadline_s:
                    raise RuntimeError(f"topic {name} was made, but {self.bootstrap_servers} does not know it yet")

    def add_partitions(self, topic: str, total: int) -> None:
        with self._admin() as admin:
            persistently(lambda: admin.create_partitions({topic: NewPartitions(total)}))

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        with self._admin() as admin:
            persistently(lambda: admin.delete_records({TopicPartition(topic, partition): before_offset}))

    def down(self) -> None:
        raise NotImplementedError(f"a {self.kind} broker is not ours to stop")

    def up(self) -> None:
        raise NotImplementedError(f"a {self.kind} broker is not ours to start")

    def client_options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap_servers}

    def _admin(self) -> contextlib.closing[Any]:
        return contextlib.closing(KafkaAdminClient(**self.client_options(), api_version_auto_timeout_ms=10_000))


class YourBroker(_Admin):
    """The one that `KAFKA_BOOTSTRAP_SERVERS` names."""

    kind = "yours"

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    def stop(self) -> None:
        pass


class KafkaNode(_Admin):
    """A real single-node Kafka (KRaft) in a process group of its own, on free loopback ports."""

    kind = "kafka"
    min_session_ms = 1_000

    def __init__(self, home: Path, directory: Path) -> None:
        if not (home / "bin" / "kafka-server-start.sh").exists():
            raise RuntimeError(f"KAFKA_HOME must be a Kafka distribution with bin/kafka-server-start.sh; got {home}")
        if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
            raise RuntimeError(
                f"KAFKA_HOME is {home}, but there is no java on PATH and no JAVA_HOME; install a Java 17 runtime or "
                "unset KAFKA_HOME"
            )
        self._home = home
        self._directory = directory
        self._port, self._controller_port = _free_ports(2)
        self.bootstrap_servers = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> KafkaNode:
        self._directory.mkdir(parents=True, exist_ok=True)
        settings = self._directory / "server.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        # An id that began with a dash would be taken for an option.
        cluster = "S" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        self._run("kafka-storage.sh", "format", "--standalone", "-t", cluster, "-c", settings, *self._format_options())
        atexit.register(self.stop)  # also when pytest is interrupted between start and its finalisers
        self.up()
        return self

    def up(self) -> None:
        log = (self._directory / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [
                    *ends_with_us(),
                    str(self._home / "bin" / "kafka-server-start.sh"),
                    str(self._directory / "server.properties"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.1)
                break
            if self._answers():
                return
        tail = (self._directory / "server.log").read_text(errors="replace")[-2000:]
        self.stop()
        raise RuntimeError(f"Kafka from KAFKA_HOME {self._home} does not answer; the end of its log:\n{tail}")

    def down(self) -> None:
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        # Its data goes with it, so there is nothing to stop for in good order.
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait(timeout=30)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self._port), timeout=0.2).close()
            with contextlib.suppress(kafka_errors.KafkaError, AttributeError), self._admin() as admin:
                return bool(admin.describe_cluster()["brokers"])
        return False

    def _settings(self) -> dict[str, str]:
        listener, host = self._listener(), "127.0.0.1"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"{host}:{self._controller_port}",
            "listeners": f"{listener}://{host}:{self._port},CONTROLLER://{host}:{self._controller_port}",
            "advertised.listeners": f"{listener}://{host}:{self._port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": f"{listener}:{listener},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": listener,
            "log.dirs": str(self._directory / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": str(self.min_session_ms),
            "auto.create.topics.enable": "false",
            # A node that was killed may come back when its old session is over, by default after 9 s.
            "broker.session.timeout.ms": "1000",
            "broker.heartbeat.interval.ms": "200",
        }

    def _listener(self) -> str:
        return "PLAINTEXT"

    def _format_options(self) -> list[str]:
        return []

    def _environment(self) -> dict[str, str]:
        return os.environ | {"KAFKA_HEAP_OPTS": "-Xmx320m"}

    def _run(self, command: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._home / "bin" / command, *arguments], capture_output=True, text=True, env=self._environment()
        )
        if done.returncode:
            raise RuntimeError(f"{command} failed with {done.returncode}:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")


class SecureKafka(KafkaNode):
    """A real node that wants SCRAM over TLS and grants by ACL; made-up users with made-up passwords."""

    kind = "secure kafka"

    def __init__(self, home: Path, directory: Path, users: Sequence[str]) -> None:
        super().__init__(home, directory)
        self.passwords = {user: secrets.token_urlsafe(12) for user in ("broker", *users)}
        self.cafile = directory / "ca.pem"

    def start(self) -> SecureKafka:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        super().start()
        return self

    def grant(self, user: str, rights: Mapping[tuple[ResourceType, str], Sequence[ACLOperation]]) -> None:
        acls = [
            ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, ResourcePattern(kind, name))
            for (kind, name), operations in rights.items()
            for operation in operations
        ]
        with self._admin() as admin:
            failed = admin.create_acls(acls)["failed"]
        if failed:
            raise RuntimeError(f"ACLs are refused: {failed}")

    def security(self, user: str) -> dict[str, Any]:
        """The security part of a `KafkaConfig`."""
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": self.passwords[user],
            "ssl_cafile": self.cafile,
        }

    def client_options(self) -> dict[str, Any]:
        return super().client_options() | {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "broker",
            "sasl_plain_password": self.passwords["broker"],
            "ssl_context": ssl.create_default_context(cafile=str(self.cafile)),
        }

    def _listener(self) -> str:
        return "SASL_SSL"

    def _settings(self) -> dict[str, str]:
        login = "org.apache.kafka.common.security.scram.ScramLoginModule"
        return super()._settings() | {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._directory / "keystore.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.cafile),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                f'{login} required username="broker" password="{self.passwords["broker"]}";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:broker;User:ANONYMOUS",
        }

    def _format_options(self) -> list[str]:
        users = [f"SCRAM-SHA-512=[name={user},password={word}]" for user, word in self.passwords.items()]
        return [option for user in users for option in ("--add-scram", user)]

    def _make_certificates(self) -> None:
        new: list[str | Path] = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        authority, key, leaf = (self._directory / name for name in ("ca.key", "server.key", "server.pem"))
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _openssl(*new, "-subj", "/CN=test authority", *usage, "-keyout", authority, "-out", self.cafile)
        names = [
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]
        signed: list[str | Path] = ["-CA", self.cafile, "-CAkey", authority]
        _openssl(*new, *signed, "-subj", "/CN=localhost", *names, "-keyout", key, "-out", leaf)
        (self._directory / "keystore.pem").write_text(key.read_text() + leaf.read_text())


class DockerKafka(_Admin):
    """The official image, through testcontainers."""

    kind = "docker"
    min_session_ms = 1_000

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        (port,) = _free_ports(1)
        self.bootstrap_servers = f"127.0.0.1:{port}"
        settings = {
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_NODE_ID": "1",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
            "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
            "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": str(self.min_session_ms),
            "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        }
        self._container = DockerContainer(DOCKER_IMAGE).with_bind_ports(9092, port)
        for name, value in settings.items():
            self._container = self._container.with_env(name, value)

    def start(self) -> DockerKafka:
        self._container.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with self._admin():
                    return self
            except (kafka_errors.KafkaError, AttributeError) as error:
                if time.monotonic() > deadline_s:
                    self.stop()
                    raise RuntimeError(f"{DOCKER_IMAGE} does not answer at {self.bootstrap_servers}") from error

    def stop(self) -> None:
        self._container.stop()


class Embedded:
    """The broker of `streamer demo`."""

    kind = "embedded"
    min_session_ms = 1_000

    def __init__(self) -> None:
        self._broker = EmbeddedBroker().start()
        self.bootstrap_servers = self._broker.bootstrap_servers

    def create_topic(self, name: str, partitions: int = 1) -> None:
        self._broker.create_topic(name, partitions)

    def add_partitions(self, topic: str, total: int) -> None:
        raise NotImplementedError("the embedded broker cannot add partitions to a topic")

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        self._broker.delete_records(topic, partition, before_offset)

    def down(self) -> None:
        self._broker.set_down()

    def up(self) -> None:
        self._broker.set_up()

    def stop(self) -> None:
        self._broker.stop()


def choose_broker(directory: Path) -> Broker:
    """Start, or find, the first broker of the module's list."""
    if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return YourBroker(servers)
    if home := kafka_home():
        return KafkaNode(home, directory).start()
    if docker_answers():
        return DockerKafka().start()
    return Embedded()


def kafka_home() -> Path | None:
    home = os.environ.get("KAFKA_HOME")
    return Path(home).resolve() if home else None


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(["docker", "info"], capture_output=True, timeout=5).returncode == 0
    return False


def ends_with_us() -> list[str]:
    """What to put before a command so that it ends when this process does, even when we are killed; Linux only."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def unique(name: str) -> str:
    """A topic or group name no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def config_for(broker: Broker, **settings: Any) -> KafkaConfig:
    """A configuration for `broker` with names of its own and bounds that suit a test."""
    name = unique("t")
    return KafkaConfig(
        **{
            "bootstrap_servers": broker.bootstrap_servers,
            "topic": name,
            "group": f"{name}-group",
            "alerts_topic": f"{name}-alerts",
            # Not the shortest: while a callback runs, librdkafka may send heartbeats a second apart.
            "session_timeout_ms": max(5_000, broker.min_session_ms),
            "request_timeout_ms": 10_000,
            "delivery_timeout_s": 15.0,
            **settings,
        }
    )


def produce(broker: Broker, topic: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Send messages (arguments of kafka-python's `send`) and see each acknowledged."""
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, acks="all", max_in_flight_requests_per_connection=1
    )
    try:
        sent = [producer.send(topic, **message) for message in messages]
        producer.flush(30)
        for future in sent:
            future.get(0)
    finally:
        producer.close(5)


def consume(broker: Broker, topic: str, count: int, timeout_s: float = 20.0) -> list[Any]:
    """The first `count` records of a topic, partition by partition; fewer when time is over."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", fetch_max_wait_ms=50
    )
    try:
        consumer.assign([TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))])
        records: list[Any] = []
        deadline_s = time.monotonic() + timeout_s
        while len(records) < count and time.monotonic() < deadline_s:
            for found in consumer.poll(timeout_ms=200).values():
                records += found
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def _has_leaders(topic: Mapping[str, Any]) -> bool:
    partitions = topic["partitions"]
    return topic["error_code"] == 0 and bool(partitions) and all(part["leader"] >= 0 for part in partitions)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"openssl failed with {done.returncode}: {done.stderr[-1000:]}")
