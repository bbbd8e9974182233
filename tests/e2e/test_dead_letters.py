"""What was refused is scored after all, once the cause is removed and the dead letters are replayed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer import cli
from streamer.offline.machines import FEATURES
from streamer.offline.replay import encode
from tests.brokers import Broker, produce
from tests.e2e.conftest import NewSite, World
from tests.e2e.harness import DaemonThread, Expected


@pytest.mark.usefixtures("keep_logging")
def test_records_that_were_refused_are_scored_after_their_replay(
    broker: Broker, world: World, new_site: NewSite, capsys: pytest.CaptureFixture[str]
) -> None:
    def as_text(value: bytes) -> bytes:
        message: dict[str, Any] = json.loads(value)
        return json.dumps({name: repr(one) if name in FEATURES else one for name, one in message.items()}).encode()

    site = new_site()
    records = encode(world.live, site.settings)
    produce(broker, site.settings.kafka.topic, [{"key": key, "value": as_text(value)} for key, value in records])
    with DaemonThread(site) as daemon:
        site.wait_until_done()
        assert daemon.metrics()['streamer_records_dead_lettered_total{reason="schema"}'] == len(records)

    site.sections["records"]["text_numbers"] = True
    site.save()
    with DaemonThread(site) as daemon:
        assert cli.main(["dlq", "replay", "--config", str(site.file), "--reason", "schema", "--yes"]) == 0
        site.wait_until_done()
        metrics = daemon.metrics()

    assert f"{len(records)} dead letter(s)" in capsys.readouterr().out
    assert metrics["streamer_records_windowed_total"] == len(records)
    assert len(site.dead_letters()) == len(records)  # no new ones
    Expected.of(site, world.live).hold(site, each_once=True)
