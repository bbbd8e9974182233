"""What is asked of the broker, and what it answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from itertools import chain

from streamer.config import KafkaConfig


@dataclass(frozen=True, slots=True)
class Needs:
    """What a command does with the broker; nothing else is asked for."""

    reads: tuple[str, ...] = ()  # topics
    writes: tuple[str, ...] = ()  # topics
    group: str | None = None  # consumer group to join

    @classmethod
    def of_daemon(cls, config: KafkaConfig) -> Needs:
        outputs = (config.alerts_topic, config.dlq_topic, config.scores_topic)
        return cls((config.topic,), tuple(name for name in outputs if name is not None), config.group)

    @property
    def topics(self) -> dict[str, str]:
        """The operation needed on each topic."""
        return dict(chain(((name, "READ") for name in self.reads), ((name, "WRITE") for name in self.writes)))


class Missing(Enum):
    """What to do about a topic that does not exist."""

    FAIL = "fail"
    CREATE = "create"  # with the broker's default partitions
    CREATED_BY_RUN = "created by run"  # say so, and that it is no failure


class Fault(StrEnum):
    """What kind of thing is wrong, for a metric's label."""

    BROKER_UNREACHABLE = "broker_unreachable"
    LOGIN_REFUSED = "login_refused"
    NOT_PERMITTED = "not_permitted"
    TOPIC_MISSING = "topic_missing"


@dataclass(frozen=True, slots=True)
class ProbeStep:
    """One thing asked; `ok` is None where the broker cannot say."""

    name: str
    ok: bool | None
    detail: str
    fault: Fault = Fault.BROKER_UNREACHABLE  # of what kind, where `ok` is False


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What was asked, in order, and what the broker answered."""

    steps: tuple[ProbeStep, ...]
    topic_ids: Mapping[str, str] = field(default_factory=dict)  # of the topics found, where the broker says them

    @property
    def ok(self) -> bool:
        """True if nothing was refused; steps that cannot be verified do not count."""
        return bool(self.steps) and all(step.ok is not False for step in self.steps)

    @property
    def reason(self) -> str | None:
        """The first thing that is wrong, in one sentence; None if nothing is."""
        failed = self.failed
        return None if failed is None else failed.detail

    @property
    def failed(self) -> ProbeStep | None:
        """The first step that went wrong."""
        return next((step for step in self.steps if step.ok is False), None)


class Stop(Exception):
    """A step failed so that the later ones cannot be asked."""


class Notes:
    """Steps as they are taken."""

    def __init__(self, config: KafkaConfig) -> None:
        self.steps: list[ProbeStep] = []
        self.who = f"user {config.sasl_username!r}" if config.sasl_username else "this client"
        self._principal = config.sasl_username or "ANONYMOUS"
        self._timeout_s = config.probe_timeout_s

    def add(self, name: str, ok: bool | None, detail: str, fault: Fault = Fault.BROKER_UNREACHABLE) -> None:
        self.steps.append(ProbeStep(name, ok, detail, fault))

    def permission(self, operation: str, kind: str, name: str, granted: bool | None) -> None:
        """Whether a permission was granted; None where the broker does not report them."""
        step, what = f"{operation} {kind} {name}", f"{operation} on {kind} {name}"
        if granted is None:
            self.add(step, None, f"{what} cannot be verified: this broker does not report permissions")
        elif granted:
            self.add(step, True, f"{self.who} has {what}")
        else:
            detail = f"{self.who} has no {what}; {self.grant(operation, kind, name)}"
            self.add(step, False, detail, Fault.NOT_PERMITTED)

    def grant(self, operation: str, kind: str, name: str) -> str:
        """The command that grants a permission."""
        what = f"--operation {operation.title()} --{kind} {name}"
        return f"run kafka-acls --add --allow-principal User:{self._principal} {what}"

    def late(self, name: str, what: str) -> Stop:
        """Note that the broker did not answer in time."""
        self.add(name, False, f"no answer to {what} within {self._timeout_s:g} s; is the broker overloaded?")
        return Stop()
