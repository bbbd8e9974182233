"""`streamer dlq` against a broker, with both clients; the letters are written as the daemon writes them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from streamer import cli
from streamer.config import KafkaConfig
from streamer.connectors.kafka import Headers, connect_producer
from streamer.connectors.sinks import KafkaSinks
from streamer.formats.rejects import MALFORMED, SCHEMA, Reject
from tests.brokers import Broker, config_for, consume, produce
from tests.messages import batch

pytestmark = pytest.mark.usefixtures("keep_logging")

T0_MS = 1_700_000_000_000
ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"


class Site:
    """A broker with an input topic and one of dead letters, and the file that names them."""

    def __init__(self, broker: Broker, folder: Path, client: str) -> None:
        self.broker = broker
        self.kafka: KafkaConfig = config_for(broker, client=client)
        self.file = folder / "streamer.yaml"
        self.configure()
        broker.create_topic(self.kafka.topic, 2)
        broker.create_topic(self.kafka.dlq_topic, 2)

    def configure(self, **records: Any) -> None:
        kafka = self.kafka.model_dump(mode="json", exclude_unset=True)
        self.file.write_text(json.dumps({"kafka": kafka, "records": {"features": ["heat"], **records}}))

    def refuse(self, *letters: tuple[bytes | None, bytes | None, Headers, Reject], most: int = 10_000) -> None:
        """Dead-letter records that came at offsets from 100 of partition 1 of the input topic."""
        sinks = KafkaSinks(connect_producer(self.kafka), self.kafka, max_value_bytes=most)
        for row, (key, value, headers, reject) in enumerate(letters):
            polled = dataclasses.replace(
                batch([value], [key], headers=[headers], first=100 + row, partition=1, now_ns=T0_MS * 1_000_000),
                topic=self.kafka.topic,
            )
            sinks.publish_dead_letter(polled, reject)
        sinks.flush(20.0)
        sinks.close()

    def dlq(self, action: str, *arguments: str) -> int:
        return cli.main(["dlq", action, "--config", str(self.file), *arguments])

    def inputs(self, count: int) -> list[Any]:
        """What was sent to the input topic: `count` records, and no more."""
        return consume(self.broker, self.kafka.topic, count + 1, timeout_s=1.5)


@pytest.fixture(params=["kafka-python", "confluent"])
def site(request: pytest.FixtureRequest, broker: Broker, tmp_path: Path) -> Site:
    return Site(broker, tmp_path, str(request.param))


Captured = pytest.CaptureFixture[str]


def bad(
    value: bytes, *, key: bytes = b"pump-1", headers: Headers = (), reason: str = SCHEMA, why: str = "no heat"
) -> Any:
    return key, value, headers, Reject(0, reason, why)


def test_list_counts_reasons_and_shows_the_newest_letters_first(site: Site, capsys: Captured) -> None:
    site.refuse(*(bad(b'{"n": %d}' % n) for n in range(5)), bad(b"{", reason=MALFORMED, why="cut short"))

    assert site.dlq("list", "--limit", "2") == 0
    text = capsys.readouterr().out
    assert site.dlq("list", "--limit", "2", "--json") == 0
    told = json.loads(capsys.readouterr().out)

    assert f"{site.kafka.dlq_topic}: 6 dead letter(s)\n  schema     5\n  malformed  1\nthe newest 2:\n" in text
    assert (told["letters"], told["reasons"]) == (6, {"schema": 5, "malformed": 1})
    assert [(row["sample"], row["reason"], row["key"]) for row in told["newest"]] == [
        ("{", "malformed", "pump-1"),
        ('{"n": 4}', "schema", "pump-1"),
    ]
    assert told["newest"][0]["origin"] == f"{site.kafka.topic}[1]@105"
    assert text.index(told["newest"][0]["error"]) < text.index('{"n": 4}')


def test_list_takes_letters_of_a_reason_and_of_a_time_alone(site: Site, capsys: Captured) -> None:
    headers = [("streamer.dlq.reason", b"late"), ("streamer.dlq.topic", b"t")]
    produce(site.broker, site.kafka.dlq_topic, [{"value": b"old", "headers": headers, "timestamp_ms": T0_MS}])
    site.refuse(bad(b"new"), bad(b"other", reason=MALFORMED))

    found = []
    for chosen in (["--since", "1h"], ["--reason", "late"], ["--since", "1h", "--reason", "schema"]):
        assert site.dlq("list", "--json", *chosen) == 0
        found.append([row["sample"] for row in json.loads(capsys.readouterr().out)["newest"]])

    assert found == [["other", "new"], ["old"], ["new"]]


def test_nothing_in_a_letter_reaches_the_terminal_as_a_control_character(site: Site, capsys: Captured) -> None:
    hostile = ESCAPES.encode()
    site.refuse(
        bad(hostile, key=hostile, headers=[("h" + ESCAPES, hostile)], why=ESCAPES),
        bad("good\nlines ÄÖ\u202e".encode()),
    )
    assert site.dlq("list", "--json") == 0
    places = [f"{row['partition']}:{row['offset']}" for row in json.loads(capsys.readouterr().out)["newest"]]

    for arguments in (
        ["list"],
        *(["show", place] for place in places),
        *(["show", place, "--json"] for place in places),
    ):
        assert site.dlq(*arguments) == 0

    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "    good\n    lines ÄÖ\\u202e\n" in shown
    assert "1b 5d 30 3b 6f 77 6e 65 64" in shown  # the value of the first, in hex


def place_of(site: Site, capsys: Captured, row: int = 0) -> str:
    capsys.readouterr()
    assert site.dlq("list", "--json") == 0
    newest = json.loads(capsys.readouterr().out)["newest"][row]
    return f"{newest['partition']}:{newest['offset']}"


def test_show_tells_all_that_is_known_of_a_letter(site: Site, capsys: Captured) -> None:
    site.refuse(bad(b'{"heat": null}', headers=[("trace", b"abc"), ("streamer.dlq.mine", b"own")]))
    place = place_of(site, capsys)

    assert site.dlq("show", place) == 0
    lines = capsys.readouterr().out.splitlines()
    assert site.dlq("show", place, "--json") == 0
    whole = json.loads(capsys.readouterr().out)

    assert lines[0].startswith(f"letter     {place} of {site.kafka.dlq_topic}, written 20")
    assert lines[1:4] == [
        "reason     schema",
        "error      no heat",
        f"origin     {site.kafka.topic}[1]@100, timestamp 2023-11-14T22:13:20.000Z",
    ]
    assert f"group      {site.kafka.group}" in lines
    assert lines[-5:] == [
        "key        pump-1",
        "header     trace: abc",
        "header     streamer.dlq.mine: own",
        "value      14 bytes",
        '    {"heat": null}',
    ]
    assert (whole["key"], whole["value"], whole["about"]["reason"]) == ("pump-1", '{"heat": null}', "schema")


@pytest.mark.parametrize("place", ["0:999", "7:0"])
def test_a_place_that_is_not_in_the_topic_says_what_is(site: Site, capsys: Captured, place: str) -> None:
    site.refuse(bad(b"x"))

    assert site.dlq("show", place) == 64

    error = capsys.readouterr().err
    assert place in error
    assert "holds" in error or "partitions 0 to 1" in error


def test_replay_sends_nothing_without_yes(site: Site, capsys: Captured) -> None:
    site.refuse(bad(b"1"), bad(b"2"))

    assert site.dlq("replay", "--all") == 0

    out = capsys.readouterr().out
    assert f"2 dead letter(s), 14 bytes, would be sent to {site.kafka.topic}" in out
    assert "nothing is sent yet: add --yes" in out
    assert site.inputs(0) == []


def test_replay_sends_records_as_they_were(site: Site, capsys: Captured) -> None:
    headers = [("trace", b"abc"), ("streamer.dlq.reason", b"mine"), ("trace", b"")]
    site.refuse(
        bad(b"\x00\xff", headers=headers),
        (None, b"no key", (), Reject(0, SCHEMA, "")),
        (b"k", None, (), Reject(0, SCHEMA, "")),
    )

    assert site.dlq("replay", "--reason", "schema", "--yes") == 0

    sent = {record.value: record for record in site.inputs(3)}
    assert set(sent) == {b"\x00\xff", b"no key", None}
    assert (sent[b"\x00\xff"].key, sent[b"no key"].key, sent[None].key) == (b"pump-1", None, b"k")
    assert sent[b"\x00\xff"].headers == headers
    assert sent[b"no key"].headers == []
    assert sent[b"no key"].timestamp > T0_MS  # when it was sent again
    assert f"3 dead letter(s), 51 bytes, sent to {site.kafka.topic} and acknowledged" in capsys.readouterr().out


def test_a_record_whose_timestamp_is_the_time_of_the_reading_keeps_it(site: Site) -> None:
    site.configure(timestamp="@kafka")
    site.refuse(bad(b"1"))

    assert site.dlq("replay", "--all", "--yes") == 0

    assert [record.timestamp for record in site.inputs(1)] == [T0_MS]


def test_replay_sends_the_letters_named_alone(site: Site, capsys: Captured) -> None:
    site.refuse(*(bad(b"%d" % n) for n in range(4)))
    place = place_of(site, capsys, row=1)

    assert site.dlq("replay", place, "--yes") == 0

    assert [record.value for record in site.inputs(1)] == [b"2"]


def test_replay_refuses_what_is_cut_foreign_or_of_another_topic_and_sends_the_rest(
    site: Site, capsys: Captured
) -> None:
    site.refuse(bad(b"x" * 5000), bad(b"good"), most=2000)
    forged = [("streamer.dlq.reason", b"late"), ("streamer.dlq.topic", b"payments")]
    produce(site.broker, site.kafka.dlq_topic, [{"value": b"forged", "headers": forged}, {"value": b"foreign"}])

    assert site.dlq("replay", "--all", "--yes") == 0

    out = capsys.readouterr().out
    assert [record.value for record in site.inputs(1)] == [b"good"]
    assert "1 not sent" in out
    assert "cut: its value did not fit" in out
    assert f"of topic payments, and kafka.topic is {site.kafka.topic}" in out
    assert "no dead letter of streamer" in out


def test_replay_of_nothing_but_what_is_refused_exits_65(site: Site) -> None:
    produce(site.broker, site.kafka.dlq_topic, [{"value": b"foreign"}])

    assert site.dlq("replay", "--all", "--yes") == 65


def test_a_topic_without_letters_is_no_error(site: Site, capsys: Captured) -> None:
    assert site.dlq("list") == 0
    assert site.dlq("replay", "--all") == 0

    assert ": 0 dead letter(s)\n" in capsys.readouterr().out


def test_a_dead_letter_topic_that_is_not_there_is_named(broker: Broker, tmp_path: Path, capsys: Captured) -> None:
    site = Site(broker, tmp_path, "kafka-python")
    site.kafka = site.kafka.model_copy(update={"dead_letter_topic": "nowhere.dlq"})
    site.configure()

    assert site.dlq("list") == 69

    assert "nowhere.dlq" in capsys.readouterr().err


def test_the_configuration_is_named_before_the_action_or_behind_it(tmp_path: Path, capsys: Captured) -> None:
    nowhere = str(tmp_path / "nowhere.yaml")

    assert cli.main(["dlq", "--config", nowhere, "list"]) == cli.main(["dlq", "list", "--config", nowhere]) == 78
    with pytest.raises(SystemExit) as left:
        cli.main(["dlq", "list"])

    assert left.value.code == 64
    error = capsys.readouterr().err
    assert error.count(f"{nowhere}: No such file or directory") == 2
    assert error.endswith("streamer dlq list: --config is missing; see `streamer dlq list --help`\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay"], "wanted PARTITION:OFFSET, --reason, --since or --all"),
        (["replay", "--since", "1h", "0:1"], "--since: does not go with PARTITION:OFFSET"),
        (["replay", "--all", "--reason", "late"], "--all: does not go with --reason"),
        (["replay", "0:1", "x"], "wanted PARTITION:OFFSET, such as 0:1842; got x"),
        (["show", "--json"], "PARTITION:OFFSET is missing"),
        (["list", "--reason", "odd"], "invalid choice: 'odd'"),
        (["list", "--since", "soon"], "--since: wanted a duration"),
        (["list", "--limit", "0"], "wanted a whole number from 1 to 10000; got 0"),
    ],
)
def test_a_wrong_dlq_command_line_exits_64(capsys: Captured, arguments: Sequence[str], words: str) -> None:
    try:
        code = cli.main(["dlq", arguments[0], "--config", "x", *arguments[1:]])
    except SystemExit as left:
        code = int(left.code or 0)

    assert code == 64
    assert words in capsys.readouterr().err
