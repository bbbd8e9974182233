"""`Outbox` keeps every message, in order, whatever its client does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer.connectors.kafka import Parts
from streamer.connectors.kafka.outbox import Message, NotYet, Outbox
from streamer.errors import BrokerError, DeliveryFailed


class Scripted(Outbox):
    """An outbox whose client does what the test says; `log` has what each client was given."""

    def __init__(self, treat: Callable[[Message], None], **bounds: int) -> None:
        super().__init__("127.0.0.1:1", stall_s=1e9, **bounds)
        self.treat = treat
        self.reachable = True
        self.log: list[list[bytes | None]] = []

    def _connect(self, timeout_s: float) -> None:
        if not self.reachable:
            raise BrokerError("nobody there")
        self.log.append([])

    def _transmit(self, message: Message) -> None:
        self.treat(message)
        self.log[-1].append(message.value)

    def _wait(self, timeout_s: float) -> None:
        pass

    def _is_too_large(self, error: BaseException) -> bool:
        return isinstance(error, OverflowError)

    def _discard(self) -> None:
        pass


def send(outbox: Outbox, *values: bytes) -> None:
    for value in values:
        outbox.send("alerts", key=None, value=value)


def test_after_one_refusal_a_new_client_gets_all_that_is_not_acknowledged_in_order() -> None:
    def refuse_b(message: Message) -> None:
        if message.value == b"b":
            message.fail(RuntimeError("fenced"))
        elif message.value == b"a":
            message.acknowledge()

    outbox = Scripted(refuse_b)
    send(outbox, b"a", b"b", b"c")
    with pytest.raises(DeliveryFailed, match=r"2 of 3 messages.*alerts: RuntimeError: fenced"):
        outbox.flush(0)
    send(outbox, b"d")
    assert (outbox.pending, outbox.rebuilds) == (3, 1)

    outbox.treat = Message.acknowledge
    outbox.flush(0)

    assert outbox.log == [[b"a", b"b", b"c"], [b"b", b"c", b"d"]]
    assert outbox.pending == 0


def test_nothing_overtakes_a_message_the_client_cannot_take_yet() -> None:
    def not_a(message: Message) -> None:
        if message.value == b"a":
            raise NotYet("no metadata")
        message.acknowledge()

    outbox = Scripted(not_a)
    send(outbox, b"a", b"b")
    with pytest.raises(DeliveryFailed, match="2 of 2 messages"):
        outbox.flush(0)
    assert outbox.log == [[]]

    outbox.treat = Message.acknowledge
    outbox.flush(0)

    assert outbox.log == [[b"a", b"b"]]


def test_an_unreachable_broker_fails_the_flush_and_loses_nothing() -> None:
    outbox = Scripted(Message.acknowledge)
    outbox.reachable = False
    send(outbox, b"a")

    with pytest.raises(DeliveryFailed, match=r"1 of 1 messages.*no connection to 127.0.0.1:1: refused"):
        outbox.flush(0)
    assert outbox.pending == 1

    outbox.reachable = True
    outbox.flush(0)
    assert outbox.log == [[b"a"]]


def test_a_full_outbox_refuses_and_room_comes_with_acknowledgements() -> None:
    outbox = Scripted(Message.acknowledge, max_pending=2)
    send(outbox, b"a", b"b")

    with pytest.raises(DeliveryFailed, match="outbox is full: 2 messages"):
        send(outbox, b"c")
    outbox.flush(0)
    send(outbox, b"c")

    assert outbox.log == [[b"a", b"b", b"c"]]


def test_the_outbox_is_bounded_in_bytes_too() -> None:
    outbox = Scripted(Message.acknowledge, max_pending_bytes=4_000)
    send(outbox, b"x" * 700)

    with pytest.raises(DeliveryFailed, match="outbox is full: 1 messages, 3100 bytes"):
        send(outbox, b"x" * 200)


def test_room_comes_back_whole_though_acknowledgements_arrive_while_it_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class AcknowledgedAtTheSecondLook(Message):
        """A client's thread acknowledges it just after somebody looked."""

        __slots__ = ("looks",)

        @property
        def acknowledged(self) -> bool:
            self.looks = getattr(self, "looks", 0) + 1
            return self.looks > (0 if self.value == b"early" else 1)

        @acknowledged.setter
        def acknowledged(self, value: bool) -> None:
            pass

    monkeypatch.setattr("streamer.connectors.kafka.outbox.Message", AcknowledgedAtTheSecondLook)
    outbox = Scripted(lambda message: None, max_pending_bytes=4_000)

    for _ in range(100):
        send(outbox, b"early", b"late")
        outbox.flush(0.1)

    assert outbox.pending == 0
    send(outbox, b"x" * 900)  # all the room there is


def halve(parts: Parts) -> list[Parts]:
    value = parts.value or b""
    middle = len(value) // 2
    return [Parts(None, half, ()) for half in (value[:middle], value[middle:])] if middle else []


def at_most(size: int) -> Callable[[Message], None]:
    """A topic that takes values up to a size."""

    def treat(message: Message) -> None:
        if len(message.value or b"") > size:
            message.fail(OverflowError("too large"))
        else:
            message.acknowledge()

    return treat


def test_a_message_too_large_for_its_topic_goes_in_parts_and_is_no_failure() -> None:
    outbox = Scripted(at_most(30_000))
    for value in (b"a", b"b" * 100_000, b"c"):
        outbox.send("scores", key=None, value=value, shorten=halve)

    outbox.flush(5)

    assert outbox.log[0] == [b"a", b"b" * 100_000, b"c"]
    assert outbox.log[-1] == [b"b" * 25_000] * 4
    assert outbox.pending == 0
    assert outbox._bytes == 0


def test_messages_that_fail_together_are_sent_alone_before_any_is_made_shorter() -> None:
    outbox = Scripted(lambda message: message.acknowledge() if outbox._alone else message.fail(OverflowError("batch")))
    shortened: list[Parts] = []

    def never(parts: Parts) -> list[Parts]:
        shortened.append(parts)
        return []

    for value in (b"a", b"b"):
        outbox.send("alerts", key=None, value=value, shorten=never)
    outbox.flush(5)

    assert outbox.pending == 0
    assert shortened == []


def test_a_message_nobody_can_shorten_is_kept_and_the_failure_says_which_setting_to_raise() -> None:
    outbox = Scripted(at_most(10))
    send(outbox, b"x" * 100)

    with pytest.raises(DeliveryFailed, match=r"alerts: OverflowError.*raise its max\.message\.bytes"):
        outbox.flush(5)

    assert outbox.pending == 1


def test_a_closed_outbox_lets_go_of_what_was_not_acknowledged() -> None:
    outbox = Scripted(lambda message: None)
    send(outbox, b"sent")
    with pytest.raises(DeliveryFailed):
        outbox.flush(0)
    send(outbox, b"waits")

    outbox.close()

    assert outbox.pending == 0
