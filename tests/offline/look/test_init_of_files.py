"""`init` of data files that need a word more: what is not clear is said, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.cli import main
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
