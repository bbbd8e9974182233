"""What is asked of the broker, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
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
        """The right needed on each topic."""
        return dict(chain(((name, "READ") for name in self.reads), ((name, "WRITE") for name in self.writes)))


class Missing(Enum):
    """What to do about a topic that does not exist."""

    FAIL = "fail"
    CREATE = "create"  # with the broker's default partitions
    CREATED_BY_RUN = "created by run"  # say so, and that it is no failure


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


class Stop(Exception):
    """A step failed so that the later ones cannot be asked."""


class Notes:
    """Steps as they are taken."""

    def __init__(self, config: KafkaConfig) -> None:
        self.steps: list[ProbeStep] = []
        self.who = f"user {config.sasl_username!r}" if config.sasl_username else "this client"
        self._principal = config.sasl_username or "ANONYMOUS"
        self._timeout_s = config.probe_timeout_s

    def add(self, name: str, ok: bool | None, detail: str) -> None:
        self.steps.append(ProbeStep(name, ok, detail))

    def right(self, right: str, kind: str, name: str, granted: bool | None) -> None:
        """Whether a right was granted; None where the broker does not report rights."""
        step = f"{right} {kind} {name}"
        if granted is None:
            self.add(step, None, f"{right} on {kind} {name} is not determinable: this broker does not report rights")
        elif granted:
            self.add(step, True, f"{self.who} has {right} on {kind} {name}")
        else:
            self.add(step, False, f"{self.who} has no {right} on {kind} {name}; {self.grant(right, kind, name)}")

    def grant(self, right: str, kind: str, name: str) -> str:
        """The command that grants a right."""
        return (
            f"run kafka-acls --add --allow-principal User:{self._principal} --operation {right.title()} --{kind} {name}"
        )

    def late(self, name: str, what: str) -> Stop:
        """Note that the broker did not answer in time."""
        self.add(name, False, f"no answer to {what} within {self._timeout_s:g} s; is the broker overloaded?")
        return Stop()
