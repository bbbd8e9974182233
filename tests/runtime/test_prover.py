"""A proof is asked for beside the loop, and one that never comes back is an answer too."""

from __future__ import annotations

import threading

from streamer.config import KafkaConfig
from streamer.connectors.kafka.probe import Fault, Proof, Standing
from streamer.errors import ConfigError
from streamer.runtime.prover import GRACE_S, TIMEOUT_S, Prover
from tests.e2e.harness import wait_until


def test_the_loop_goes_on_while_the_broker_thinks() -> None:
    thinking = threading.Event()

    def prove(config: KafkaConfig, standing: Standing) -> Proof:
        thinking.wait(10)
        return Proof(topic_id=str(standing.member))

    prover = Prover(KafkaConfig(), lambda: 0.0, prove)
    prover.ask(Standing("me"))
    meanwhile = prover.take(), prover.busy
    thinking.set()
    answer = wait_until(prover.take, "the answer")

    assert meanwhile == (None, True)
    assert answer is not None
    assert answer.topic_id == "me"
    assert prover.take() is None
    assert not prover.busy


def test_an_answer_that_does_not_come_is_a_broker_that_is_not_reached_and_never_taken_for_a_later_one() -> None:
    now_s = 0.0
    hanging, later = threading.Event(), threading.Event()

    def prove(config: KafkaConfig, standing: Standing) -> Proof:
        (hanging if standing.member == "first" else later).wait(10)
        return Proof(topic_id=standing.member)

    prover = Prover(KafkaConfig(), lambda: now_s, prove)
    prover.ask(Standing("first"))
    now_s += TIMEOUT_S + GRACE_S + 1
    late = prover.take()
    prover.ask(Standing("second"))
    hanging.set()
    between = prover.take()
    later.set()
    second = wait_until(prover.take, "the second answer")

    assert late is not None
    assert late.failed is not None
    assert late.failed.fault is Fault.BROKER_UNREACHABLE
    assert "no answer from 127.0.0.1:9092 within 5 s" in late.failed.detail
    assert between is None
    assert second is not None
    assert second.topic_id == "second"


def test_a_certificate_that_cannot_be_read_any_more_is_told() -> None:
    def prove(config: KafkaConfig, standing: Standing) -> Proof:
        raise ConfigError("kafka.ssl_cafile must be a readable PEM file")

    prover = Prover(KafkaConfig(), lambda: 0.0, prove)
    prover.ask(Standing())
    answer = wait_until(prover.take, "the answer")

    assert answer is not None
    assert answer.failed is not None
    assert "ssl_cafile" in answer.failed.detail
