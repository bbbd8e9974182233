"""`streamer notifications explain`: which rule decides, and whether anybody is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer import cli
from streamer.cli.exit_codes import EXIT_OK, EXIT_USAGE

pytestmark = pytest.mark.usefixtures("keep_logging")

NOTIFICATIONS = {
    "rules": [
        {"name": "boiler maintenance", "streams": ["boiler-*"], "mute": True},
        {
            "name": "only high heat",
            "features": ["heat"],
            "direction": "above",
            "least_deviation": 2.0,
            "severity": {"warning": 2, "critical": 5},
        },
    ],
    "maintenance": [
        {
            "name": "weekly wash",
            "streams": ["line-3-*"],
            "begin": "2026-01-03T02:00:00",
            "lasts": "3h",
            "rrule": "FREQ=WEEKLY;BYDAY=SA",
            "timezone": "Europe/Berlin",
        }
    ],
    "incidents_per_stream": {"at_most": 6, "within": "1d"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "streamer.yaml"
    path.write_text(json.dumps({"records": {"features": ["heat"]}, "notifications": NOTIFICATIONS}))
    return path


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        ("--stream boiler-3", ["  mute: true (rule boiler maintenance)", "muted: rule boiler maintenance"]),
        ("--stream press --observed 25 --expected 20", ["told, unless 6 of the stream were within 1d"]),
        (
            "--stream press --observed 15 --expected 20",
            ["muted: rule only high heat: heat is not above what was expected (observed 15, expected 20)"],
        ),
        ("--stream press --observed 21 --expected 20", ["muted: rule only high heat: heat deviates by 1, less than 2"]),
        ("--stream press", ["  direction and deviation are left out: give --observed and --expected"]),
        (
            "--stream press --score 6 --at 2026-01-03T00:00:00Z",
            ["anomaly of heat on press at 2026-01-03T00:00:00.000Z, severity critical"],
        ),
        ("--stream press --kind silence", ["  no rule matches", "told, unless 6 of the stream were within 1d"]),
        # 02:00 in Berlin is 01:00 UTC in January and 00:00 UTC in July
        (
            "--stream line-3-a --feature current --at 2026-01-03T01:00:00Z",
            ["muted: maintenance weekly wash until 2026-01-03T04:00Z"],
        ),
        (
            "--stream line-3-a --kind silence --at 2026-07-04T02:59:59Z",
            ["muted: maintenance weekly wash until 2026-07-04T03:00Z"],
        ),
        ("--stream line-3-a --kind silence --at 2026-07-04T03:00:00Z", ["told, unless 6 of the stream were within 1d"]),
    ],
)
def test_an_incident_is_explained(file: Path, capsys: pytest.CaptureFixture[str], asked: str, lines: list[str]) -> None:
    assert cli.main(["notifications", "explain", "--config", str(file), *asked.split()]) == EXIT_OK

    said = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line not in said] == [], said


def test_a_figure_without_the_other_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["notifications", "explain", "--config", str(file), "--stream", "press", "--observed", "3"])

    assert code == EXIT_USAGE
    assert "--observed and --expected go together" in capsys.readouterr().err


def test_no_control_character_of_a_name_reaches_the_terminal(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["notifications", "explain", "--config", str(file), "--stream", "\x1b[2Jboiler"])

    assert "\x1b" not in capsys.readouterr().out
