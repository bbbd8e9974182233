"""Verify, before anything is read or sent, that the broker lets us do all we shall need.

Inside: one bounded series of questions: can we connect and log in, are the topics there,
may we read, write and join the group. Nothing is written, no group is joined. Not
inside: the clients that do the work later.

It exists because a Kafka client with a wrong password looks like a quiet topic:
kafka-python's `poll` returns nothing, for ever, and raises nothing. Why the questions go
over plain connections, and what AdminClient does, is in
docs/decisions/0008-probe-and-admin-client.md.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from streamer.config import KafkaConfig
from streamer.connectors.kafka.probe.connection import Connections
from streamer.connectors.kafka.probe.group import check_group
from streamer.connectors.kafka.probe.proof import Proof, Standing, no_answer, prove, topic_id
from streamer.connectors.kafka.probe.report import Fault, Missing, Needs, Notes, ProbeReport, ProbeStep, Stop
from streamer.connectors.kafka.probe.topics import TopicChecks
from streamer.errors import BrokerError

__all__ = [
    "Fault",
    "Missing",
    "Needs",
    "ProbeReport",
    "ProbeStep",
    "Proof",
    "Standing",
    "no_answer",
    "probe",
    "prove",
    "require",
    "topic_id",
]


def probe(config: KafkaConfig, needs: Needs | None = None, *, missing: Missing = Missing.FAIL) -> ProbeReport:
    """Ask everything within `config.probe_timeout_s`; never raises for what the broker does.

    Args:
        config: How to connect.
        needs: What to ask for; None: all that the daemon needs.
        missing: What to do about topics that do not exist.

    Raises:
        ConfigError: A certificate or key file cannot be used.
    """
    work = _Probe(config, needs or Needs.of_daemon(config), missing)
    # A name server that does not answer blocks getaddrinfo, which has no timeout of its own: hence the thread.
    thread = threading.Thread(target=work.run, name="probe", daemon=True)
    with _silent_client():
        thread.start()
        thread.join(config.probe_timeout_s + 0.5)
    steps = tuple(work.notes.steps)
    if work.crash is not None:
        raise work.crash
    if thread.is_alive():
        late = f"no answer from {config.bootstrap_servers} within {config.probe_timeout_s:g} s"
        steps = (*steps, ProbeStep("time", False, f"{late}; is the name server working?"))
    return ProbeReport(steps, work.topic_ids)


def require(config: KafkaConfig, needs: Needs) -> None:
    """Verify what a command needs before it begins; topics to write to are created if `config` says so.

    Raises:
        BrokerError: The first thing that is wrong, in one sentence.
        ConfigError: A certificate or key file cannot be used.
    """
    create = config.create_topics and not needs.reads
    report = probe(config, needs, missing=Missing.CREATE if create else Missing.FAIL)
    if report.reason is not None:
        raise BrokerError(report.reason)


@contextlib.contextmanager
def _silent_client() -> Iterator[None]:
    """The report says what is wrong, once; kafka-python would log it too, several times."""
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Probe:
    """One run of the questions."""

    def __init__(self, config: KafkaConfig, needs: Needs, missing: Missing) -> None:
        self.notes = Notes(config)
        self.topic_ids: dict[str, str] = {}
        self.crash: BaseException | None = None
        self._needs = needs
        self._connections = Connections(config, self.notes)
        self._topics = TopicChecks(config, needs, missing, self._connections, self.notes)

    def run(self) -> None:
        try:
            first = self._connections.log_in()
            brokers, topics = self._topics.find(first)
            self.topic_ids = {name: topic.id for name, topic in topics.items() if topic.id is not None}
            self._topics.reach_leaders(brokers, topics)
            self._topics.check_permissions(topics)
            if self._needs.group is not None:
                check_group(self._needs.group, first, self._connections, self.notes)
        except Stop:
            pass
        except BaseException as error:
            self.crash = error
        finally:
            self._connections.close()
