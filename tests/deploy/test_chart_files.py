"""What the chart carries of the rest of the repository is the same as there."""

from tools import chart_files


def test_rules_dashboards_and_secret_settings_in_the_chart_are_up_to_date() -> None:
    assert chart_files.outdated() == [], "run: make chart"


def test_rules_and_dashboards_are_all_there() -> None:
    names = {path.relative_to(chart_files.FILES).as_posix() for path in chart_files.wanted()}

    assert {"rules/streamer.yml", "dashboards/fleet.json", "dashboards/stream.json"} <= names
