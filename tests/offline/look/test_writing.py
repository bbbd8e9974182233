"""`inspect` prints what is there, `init` writes a configuration that loads and says why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from streamer import config
from streamer.cli import main
from streamer.config import KafkaConfig, Settings
from streamer.errors import DataError
from streamer.offline.look.looking import look
from streamer.offline.look.proposing import propose
from streamer.offline.look.sampling import Sample
from streamer.offline.look.writing import document
from tests.offline.look import topics
from tests.offline.look.test_init_of_files import LINES

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.usefixtures("keep_logging")


def written(sample: Sample, path: Path) -> Settings:
    """The configuration made of a sample, as the other commands load it."""
    kafka = KafkaConfig(topic="somewhere")
    seen = look(sample)
    path.write_text(document(seen, propose(seen), kafka, asked="streamer init"))
    return config.load(path, {})


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


SAMPLES = {
    "wide": topics.sample(topics.machines()),
    "long": topics.sample(topics.long_metrics()),
    "trades": topics.sample(topics.trades()),
    "quotes": topics.sample(topics.quotes()),
    "odd": topics.odd(),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_configuration_written_loads(name: str, tmp_path: Path) -> None:
    settings = written(SAMPLES[name], tmp_path / "streamer.yaml")

    assert settings.kafka.topic == "somewhere"
    assert settings.kafka.create_topics  # a broker on loopback
    assert "create_topics: true # a broker on loopback; remove it elsewhere" in (tmp_path / "streamer.yaml").read_text()
    assert settings.model.directory == tmp_path / "bundles"


def test_regular_sensors_in_order_get_no_grid_and_no_delay(tmp_path: Path) -> None:
    settings = written(SAMPLES["wide"], tmp_path / "streamer.yaml")

    assert not settings.time.active
    assert settings.features == ("temperature", "vibration")


def test_long_messages_get_a_grid_of_their_usual_interval(tmp_path: Path) -> None:
    settings = written(SAMPLES["long"], tmp_path / "streamer.yaml")

    assert (settings.records.metric, settings.records.value) == ("metric", "value")
    assert settings.time.grid == 60
    assert settings.time.gap_limit == 5
    assert settings.features == ("temperature", "vibration", "pressure")


def test_a_metric_that_comes_seldom_is_carried_from_one_value_to_the_next(tmp_path: Path) -> None:
    rows = [
        row for row in topics.long_metrics(rows=400) if row["metric"] != "pressure" or (row["ts"] // 60_000) % 10 == 0
    ]

    settings = written(topics.sample(rows), tmp_path / "streamer.yaml")

    assert settings.time.grid == 60
    assert settings.time.gap_limit == 20


def test_ticks_get_bars_and_features_of_their_own(tmp_path: Path) -> None:
    trades = written(SAMPLES["trades"], tmp_path / "trades.yaml")
    quotes = written(SAMPLES["quotes"], tmp_path / "quotes.yaml")

    assert trades.time.grid >= 10
    assert trades.time.features is not None
    assert trades.time.features["return"] == "last(price) | log_return"
    assert {"return", "imbalance"} <= set(quotes.features)
    assert set(quotes.records.zero_is_missing) == {"bid", "ask", "bid_size", "ask_size"}
    assert trades.sessions.calendar is None  # ten minutes of a holiday are no market hours
    assert trades.rules.power_of_ten is not None
    assert quotes.rules.crossed_book is not None


@pytest.mark.parametrize("kind", ["ticks-trades", "ticks-quotes"])
def test_init_proposes_for_ticks_what_the_example_has(kind: str, tmp_path: Path) -> None:
    example = ROOT / "examples" / f"{kind}.yaml"
    assert example.read_text() == (ROOT / "streamer" / "offline" / "look" / f"{kind}.yaml").read_text()
    wanted = config.load(example, {})

    settings = written(SAMPLES[kind.removeprefix("ticks-")], tmp_path / "streamer.yaml")

    assert settings.features == wanted.features
    assert settings.time.options(settings.records.features) == wanted.time.options(wanted.records.features)
    assert settings.rules == wanted.rules
    assert (settings.alerting, settings.model.hidden) == (wanted.alerting, wanted.model.hidden)


def test_fields_of_other_names_take_their_roles(tmp_path: Path) -> None:
    names = {"price": "px", "size": "qty", "symbol": "sym", "timestamp": "t", "exchange": "ex"}
    rows = [{names[name]: value for name, value in row.items()} for row in topics.trades()]

    settings = written(topics.sample(rows), tmp_path / "streamer.yaml")

    assert settings.time.features is not None
    assert settings.time.features["return"] == "last(px) | log_return"
    assert settings.rules.power_of_ten is not None
    assert settings.rules.power_of_ten.field == "px"


def test_a_counter_is_taken_by_its_rate(tmp_path: Path) -> None:
    settings = written(SAMPLES["odd"], tmp_path / "streamer.yaml")

    assert settings.time.features is not None
    assert settings.time.features["zähler"] == "last(zähler) | rate"
    assert settings.records.timestamp == "@header:gemessen"


def test_lateness_is_what_was_measured(tmp_path: Path) -> None:
    rows = topics.machines(rows=200, streams=2)
    for i in range(20, len(rows) - 10, 25):
        rows[i], rows[i + 4] = rows[i + 4], rows[i]  # two minutes late

    settings = written(topics.sample(rows), tmp_path / "streamer.yaml")

    assert 120 <= settings.time.lateness <= 300


def test_what_the_data_holds_cannot_break_the_file(tmp_path: Path) -> None:
    rows = [
        {"device": row["device"] + ": # [x", "t": row["ts"], "a: b # c": row["temperature"], "n\nl": "x\ny\n- z: 1"}
        for row in topics.machines()
    ]

    settings = written(topics.sample(rows), tmp_path / "streamer.yaml")

    assert settings.records.features == ("a: b # c",)


def test_every_value_found_says_what_was_seen(tmp_path: Path) -> None:
    written(SAMPLES["wide"], tmp_path / "streamer.yaml")

    text = (tmp_path / "streamer.yaml").read_text()
    assert "3 seen, such as press-0, press-1, press-2" in text
    assert "none of 450 readings was older than its stream's newest" in text
    assert "#   unit: text" in text


def test_what_names_no_stream_is_not_written_but_asked_for() -> None:
    rows = [{"ts": topics.iso(60 * i), "x": float(i % 7) + 0.1 * i} for i in range(100)]

    seen = look(topics.sample(rows))

    with pytest.raises(DataError, match="name one with --stream"):
        document(seen, propose(seen), KafkaConfig(), asked="")


def test_init_writes_a_file_once_and_again_with_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = lines(tmp_path / "rows.jsonl", topics.machines()), str(tmp_path / "streamer.yaml")

    assert main(["init", "--data", data, "--topic", "presses", "--out", out]) == 0
    assert "next: streamer retrain --config" in capsys.readouterr().out
    assert config.load(Path(out), {}).kafka.topic == "presses"
    assert main(["init", "--data", data, "--out", out]) == 64
    assert "overwrite it with --yes" in capsys.readouterr().err
    assert main(["init", "--data", data, "--out", out, "--yes", "--grid", "2m", "--features", "vibration"]) == 0

    settings = config.load(Path(out), {})
    assert settings.time.grid == 120
    assert settings.features == ("vibration",)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "csv.gz"])
def test_inspect_looks_at_files_of_several_kinds(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(topics.machines())
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        frame.assign(ts=pd.to_datetime(frame["ts"])).to_parquet(path)
    else:
        frame.to_csv(path, index=False)

    assert main(["inspect", "--data", str(path), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["stream"]["fields"], told["timestamp"]["field"]) == ("sensor", ["device"], "ts")
    assert [each["name"] for each in told["features"]] == ["temperature", "vibration"]
    assert told["interval_s"] == 60


def test_inspect_shows_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--data", lines(tmp_path / "rows.jsonl", topics.trades())]) == 0

    text = capsys.readouterr().out
    for word in ("JSON", "ticks-trades", "symbol", "price", "time in ms", "irregular", "time.grid"):
        assert word in text


def test_a_look_wants_something_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 64

    assert "wanted --topic T, --data FILE, or --config FILE" in capsys.readouterr().err


def test_a_german_file_is_read_as_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["Maschine;Zeitpunkt;Temperatur"]
    for row in topics.machines():
        stamp = pd.Timestamp(row["ts"]).strftime("%d.%m.%Y %H:%M:%S")
        lines.append(f"{row['device']};{stamp};{str(row['temperature']).replace('.', ',')}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))

    assert main(["inspect", "--data", str(path), "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["stream"]["fields"], told["timestamp"]["field"]) == (["Maschine"], "Zeitpunkt")
    assert (told["first"], told["interval_s"]) == ("2026-01-01T00:00:00Z", 60)
    assert [each["name"] for each in told["features"]] == ["Temperatur"]


def test_a_metric_that_comes_far_more_seldom_than_the_others_is_left_out_and_init_says_how_to_take_it(
    tmp_path: Path,
) -> None:
    rows = [
        row for row in topics.long_metrics(rows=400) if row["metric"] != "pressure" or (row["ts"] // 60_000) % 60 == 0
    ]
    file = tmp_path / "streamer.yaml"

    settings = written(topics.sample(rows), file)

    assert settings.features == ("temperature", "vibration")
    assert settings.time.gap_limit == 5
    assert re.search(r"#   pressure: comes about every .*; to take it, set time.gap_limit: 1\d\d ", file.read_text())


def test_measurements_of_influx_lines_that_are_not_taken_are_named(tmp_path: Path) -> None:
    file = tmp_path / "streamer.yaml"

    settings = written(topics.sample([line.encode() for line in LINES]), file)

    assert settings.features == ("temp", "wind")
    assert "#   measurement power: another one: 60 of 180 lines looked at" in file.read_text()
