"""A topic whose messages have no keys: each stream is in several partitions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from streamer import config
from streamer.cli import looking, main
from streamer.config import Settings
from streamer.connectors.files import DataSet
from streamer.errors import DataError
from streamer.offline.look.examining import examine
from streamer.offline.look.looking import look
from streamer.offline.look.proposing import propose
from streamer.offline.look.report import as_json, as_text
from streamer.offline.look.sampling import Sample
from streamer.offline.retrain import retrain
from tests.offline.look import topics

pytestmark = pytest.mark.usefixtures("keep_logging")

UNKEYED = topics.unkeyed(topics.machines(rows=300, streams=5))
REMEDY = "is in 4 partitions (and 4 more of 5): key the messages by stream, so that each stays in one and in order"


def test_inspect_shows_streams_that_are_in_several_partitions() -> None:
    seen = look(UNKEYED)

    assert seen.split is not None
    assert (seen.split.streams, seen.split.of, seen.split.partitions) == (5, 5, 4)
    assert seen.timing.interval_s == 60  # of the stream, not of its part in one partition
    assert f"WARNING: stream press-0 {REMEDY}" in as_text(seen, propose(seen), None)
    assert as_json(seen, propose(seen), None)["in_several_partitions"]["streams"] == 5


def test_init_warns_of_them_and_makes_up_no_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = look(UNKEYED)
    connections = (config.KafkaConfig(topic="presses"), config.SchemaRegistryConfig())
    monkeypatch.setattr(looking, "_look", lambda options: (connections, seen, propose(seen)))

    assert main(["init", "--topic", "presses", "--out", str(tmp_path / "streamer.yaml")]) == 0

    assert f"WARNING: stream press-0 {REMEDY}" in capsys.readouterr().err
    assert "# WARNING: stream press-0 is in 4 partitions" in (tmp_path / "streamer.yaml").read_text()
    assert not config.load(tmp_path / "streamer.yaml", {}).time.grid


def test_check_remarks_on_them() -> None:
    records = {"stream": "device", "timestamp": "ts", "features": ["temperature", "vibration"]}

    found = examine(Settings.model_validate({"records": records}), UNKEYED)

    assert [REMEDY in remark for remark in found.remarks] == [True]
    assert not found.hopeless


def test_streams_that_stay_in_one_partition_each_are_not_warned_of() -> None:
    rows = topics.machines(rows=100, streams=4)
    messages = [
        dataclasses.replace(message, partition=i % 4 // 2, run=i % 4 // 2)
        for i, message in enumerate(topics.sample(rows).messages)
    ]

    seen = look(Sample("topic test", sorted(messages, key=lambda one: one.partition), len(messages), 2))

    assert seen.timing.streams == 4
    assert seen.split is None


@pytest.mark.parametrize(("topic", "advice"), [(True, "key the messages by stream"), (False, "sort them by time")])
def test_late_rows_are_refused_with_advice_that_fits_where_they_came_from(
    topic: bool, advice: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {"records": {"features": ["x"]}, "model": {"directory": tmp_path}, "time": {"lateness": "1s"}}
    )
    times = np.concatenate([np.arange(0, 1000, 2), np.arange(1, 1000, 2)]) * 1_000_000_000
    data = DataSet(["T-01"], np.zeros(1000, np.int64), times, np.zeros((1000, 1)))

    with pytest.raises(DataError, match=advice):
        retrain(settings, [data], trained_on=(lambda: None) if topic else None)
