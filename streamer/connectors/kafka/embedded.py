"""A Kafka broker inside this process, for `streamer demo` and for tests without a broker.

It is librdkafka's mock cluster, which comes with the confluent-kafka wheel: no Java,
no Docker, loopback only, everything in memory, no authentication. Not for data.

Reached through ctypes, because the public way to it (the property
`test.mock.num.brokers`) can neither set how many partitions a topic gets, as the
broker knows no CreateTopics request, nor take a broker down.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streamer.errors import BrokerError, ConfigError

_PRODUCER = 0
_ERROR_BYTES = 512
_BROKER_ID = 1
_LEAVE_GROUP = 13  # API key


class EmbeddedBroker:
    """A one-node broker on a free loopback port, from `start` to `stop`."""

    def __init__(self, *, rebalance_delay_ms: int = 100) -> None:
        self._rebalance_delay_ms = rebalance_delay_ms
        self._library: Any = None
        self._handle: int | None = None
        self._cluster: int | None = None

    def start(self) -> Self:
        """Start listening.

        Raises:
            ConfigError: The confluent-kafka wheel is not installed.
        """
        if self._cluster is not None:
            return self
        self._library = _load_library()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"2", error, _ERROR_BYTES)
        self._handle = self._library.rd_kafka_new(_PRODUCER, settings, error, _ERROR_BYTES)
        if not self._handle:
            raise BrokerError(f"the embedded broker does not start: {error.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            self.stop()
            raise BrokerError("the embedded broker does not start: no free loopback port")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, self._rebalance_delay_ms)
        # Its LeaveGroup answers from version 2 on cannot be decoded by kafka-python, whose member would linger.
        self._library.rd_kafka_mock_set_apiversion(self._cluster, _LEAVE_GROUP, 0, 1)
        return self

    @property
    def bootstrap_servers(self) -> str:
        """`host:port`, ready for `kafka.bootstrap_servers`."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._running()).decode())

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic; one that is first mentioned by a client gets 4 partitions."""
        code = self._library.rd_kafka_mock_topic_create(self._running(), name.encode(), partitions, 1)
        if code:
            raise BrokerError(
                f"topic {name} cannot be made on the embedded broker: error {code}; does it exist already?"
            )

    def set_down(self) -> None:
        """Refuse and drop connections, keeping all records; `set_up` ends it."""
        self._library.rd_kafka_mock_broker_set_down(self._running(), _BROKER_ID)

    def set_up(self) -> None:
        self._library.rd_kafka_mock_broker_set_up(self._running(), _BROKER_ID)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Drop the records before `before_offset`, as retention does."""
        code = self._library.rd_kafka_mock_partition_delete_records(
            self._running(), topic.encode(), partition, before_offset
        )
        if code:
            raise BrokerError(f"records of {topic}[{partition}] cannot be deleted: error {code}")

    def stop(self) -> None:
        """Stop listening and forget everything; idempotent."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._handle:
            self._library.rd_kafka_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> int:
        if self._cluster is None:
            raise BrokerError("the embedded broker is not running; call start() first")
        return self._cluster


def _load_library() -> Any:
    spec = importlib.util.find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise ConfigError("the embedded broker needs the confluent-kafka wheel; run: pip install 'streamer[confluent]'")
    package = Path(spec.origin).parent
    # Where the wheel builders for Linux, macOS and Windows put the library.
    places = [
        package.parent / "confluent_kafka.libs" / "librdkafka-*.so*",
        package / ".dylibs" / "librdkafka*.dylib",
        package.parent / "confluent_kafka.libs" / "librdkafka*.dll",
    ]
    found = [path for place in places for path in sorted(glob.glob(str(place)))]
    if not found:
        raise ConfigError(
            "the embedded broker needs the librdkafka that the confluent-kafka wheel brings, and this installation has "
            "none (built from source?); run: pip install --force-reinstall --only-binary :all: confluent-kafka"
        )
    library = ctypes.CDLL(found[0])
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_partition_delete_records", number, [pointer, text, ctypes.c_int32, ctypes.c_int64]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_set_apiversion", number, [pointer, ctypes.c_int16, ctypes.c_int16, ctypes.c_int16]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
