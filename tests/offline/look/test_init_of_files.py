"""`init` of data files that need a word more: what is not clear is said, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer import config
from streamer.cli import main
from streamer.connectors.files import load
from tests.offline.look import topics

pytestmark = pytest.mark.usefixtures("keep_logging")

LINES = [
    line
    for i in range(60)
    for line in (
        f"weather,station=s1 temp={8 + i % 7},wind={5 + i % 3}.5 {(topics.START_S + 60 * i) * 10**9}",
        f"power,station=s1 battery=12.{i % 9},cycles={i}i {(topics.START_S + 60 * i) * 10**9}",
        f"weather,station=s2 temp={9 + i % 7},wind={4 + i % 3}.5 {(topics.START_S + 60 * i) * 10**9}",
    )
]


def refused(path: Path, text: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What `init` says of a file that it does not take."""
    path.write_text(text)
    assert main(["init", "--data", str(path), "--out", str(path.with_suffix(".yaml")), *more]) == 65
    return capsys.readouterr().err


def test_dates_that_leave_day_and_month_open_are_refused_with_both_formats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"0{1 + i // 24}/05/2026 {i % 24:02d}:00,{i * 7 % 10}.5\n" for i in range(100))

    said = refused(tmp_path / "f.csv", f"date,v\n{rows}", capsys)

    assert 'set files.date_format to "%d/%m/%Y %H:%M" or to "%m/%d/%Y %H:%M"' in said
    assert "'date'" in said


def test_a_file_of_influx_lines_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "it is Influx line protocol, which is read from Kafka (--topic), not from files" in refused(
        tmp_path / "influx.txt", "\n".join(LINES), capsys
    )


def test_a_time_that_is_no_field_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"2026-05-01T{i // 60:02d}:{i % 60:02d}:00Z,{i * 7 % 10}.5\n" for i in range(100))

    said = refused(tmp_path / "f.csv", f"recorded,v\n{rows}", capsys, "--timestamp", "recordet")

    assert "'recordet' is none of recorded, v; did you mean 'recorded'?" in said


def test_the_folder_of_the_configuration_is_made(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(
        "time,v\n" + "".join(f"2026-05-01T{i // 60:02d}:{i % 60:02d}:00Z,{i * 7 % 10}.5\n" for i in range(100))
    )

    assert main(["init", "--data", str(tmp_path / "f.csv"), "--out", str(tmp_path / "new" / "streamer.yaml")]) == 0

    assert (tmp_path / "new" / "streamer.yaml").exists()


def german(rows: int) -> str:
    """As a controller exports it: date and time of day apart, thousands set apart, an umlaut."""
    return "Datum;Uhrzeit;Maschine;Öldruck;Drehzahl\n" + "".join(
        f"{18 + i // 1440}.11.2026;{i // 60 % 24:02d}:{i % 60:02d}:00;Fräse {m};{5 + i * 7 % 10}"
        f",{i % 9}1;{'2.' if i % 5 else ''}9{i % 90 + 10},{m}\n"
        for i in range(rows)
        for m in (1, 2)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_date_and_time_in_two_columns_thousands_and_encoding_are_found_and_the_file_is_read_so(
    tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, file = tmp_path / "export.csv", tmp_path / "streamer.yaml"
    data.write_bytes(german(300).encode(encoding))

    assert main(["init", "--data", str(data), "--out", str(file)]) == 0
    settings = config.load(file, {})
    found = load([data], settings.records, files=settings.files)

    assert settings.files.timestamp == ("Datum", "Uhrzeit")
    assert (settings.files.thousands, settings.files.decimal) == (".", ",")
    assert settings.files.encoding == (None if encoding == "utf-8" else encoding)
    assert settings.records.features == ("Öldruck", "Drehzahl")
    assert list(found.names) == ["Fräse 1", "Fräse 2"]
    assert found.values[2].tolist() == pytest.approx([12.11, 2911.1])
    assert main(["inspect", "--data", str(data), "--config", str(file)]) == 0


def test_inspect_reads_files_as_the_section_files_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = tmp_path / "f.csv", tmp_path / "streamer.yaml"
    data.write_text(
        "date,v\n" + "".join(f"0{1 + i // 24}/05/2026 {i % 24:02d}:00,{i * 7 % 10}.5\n" for i in range(100))
    )
    file.write_text('files: {date_format: "%d/%m/%Y %H:%M"}\n')

    assert main(["inspect", "--json", "--data", str(data), "--config", str(file)]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["timestamp"]["field"], found["interval_s"]) == ("date", 3600)
    assert found["proposed"]["files"] == {"date_format": "%d/%m/%Y %H:%M"}


def test_retrain_says_as_well_that_influx_lines_are_read_from_topics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "influx.txt").write_text("\n".join(LINES))
    (tmp_path / "streamer.yaml").write_text("records: {features: [temp]}\n")

    assert main(["retrain", "--config", str(tmp_path / "streamer.yaml"), "--data", str(tmp_path / "influx.txt")]) == 65

    assert "it is Influx line protocol, which is read from Kafka, not from files" in capsys.readouterr().err
