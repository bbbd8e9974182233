"""Asks the broker beside the loop, one proof at a time; the loop never waits for an answer.

Not inside: what is asked (`connectors.kafka.probe`), when, and what follows from the answer (`readiness`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from streamer.config import KafkaConfig
from streamer.connectors.kafka.probe import Fault, ProbeStep, Proof, Standing, no_answer, prove, topic_id
from streamer.errors import StreamerError

TIMEOUT_S = 5.0  # of one proof, unless kafka.probe_timeout_s is shorter
GRACE_S = 1.0  # a proof that takes so much longer hangs: a name server without an answer has no bound of its own

Prove = Callable[[KafkaConfig, Standing], Proof]
AskTopicId = Callable[[KafkaConfig], str | None]


class Prover:
    """One proof at a time, each in a thread of its own.

    Args:
        config: How to connect, and what the daemon needs.
        clock: Seconds.
        prove: Asks, and blocks meanwhile.
        ask_topic_id: Asks one thing, and blocks meanwhile.
    """

    def __init__(
        self, config: KafkaConfig, clock: Callable[[], float], prove: Prove = prove, ask_topic_id: AskTopicId = topic_id
    ) -> None:
        self._config = config.model_copy(update={"probe_timeout_s": min(TIMEOUT_S, config.probe_timeout_s)})
        self._clock, self._prove, self._ask_topic_id = clock, prove, ask_topic_id
        self._asked_s = 0.0
        self._answer: list[Proof] = []
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a proof was asked for whose answer has not been taken."""
        return self._thread is not None

    def ask(self, standing: Standing) -> None:
        """Begin a proof; not while busy."""
        assert self._thread is None
        self._answer, self._asked_s = [], self._clock()
        # A list of its own: the answer to a proof that was given up must not be taken for that to a later one.
        self._thread = threading.Thread(target=self._run, args=(standing, self._answer), name="proof", daemon=True)
        self._thread.start()

    def take(self) -> Proof | None:
        """The answer, once; None while there is none. One that does not come in time is an answer as well."""
        if self._thread is None:
            return None
        late = self._clock() - self._asked_s > self._config.probe_timeout_s + GRACE_S
        if not self._answer and self._thread.is_alive() and not late:
            return None
        self._thread = None
        return self._answer[0] if self._answer else Proof(failed=no_answer(self._config))

    def topic_id(self) -> str | None:
        """Of the input topic, now; waits for the answer, some seconds at most. None: not known."""
        try:
            return self._ask_topic_id(self._config)
        except (StreamerError, OSError):  # see `_run`
            return None

    def forget(self) -> None:
        """Whoever asked is gone."""
        self._thread = None

    def _run(self, standing: Standing, answer: list[Proof]) -> None:
        try:
            answer.append(self._prove(self._config, standing))
        except (StreamerError, OSError) as error:
            # A certificate that was replaced by one that cannot be read.
            answer.append(Proof(failed=ProbeStep("settings", False, str(error), Fault.LOGIN_REFUSED)))
