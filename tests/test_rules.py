"""Alert rules: what promtool says of them, and that each has a runbook section and the labels a router needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "rules" / "streamer.yml"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


@pytest.fixture(scope="session")
def promtool() -> str:
    found = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if found:
        return found
    reason = "promtool is neither in PROMTOOL nor on PATH; it comes with Prometheus (Debian: apt install prometheus)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def test_prometheus_accepts_its_configuration(promtool: str) -> None:
    run(promtool, "check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml"))


def test_prometheus_accepts_the_rules(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_unit_tests_say(promtool: str, file: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", str(file))


def test_every_alert_has_a_unit_test() -> None:
    text = "\n".join(path.read_text() for path in TESTS)
    # Tests name an alert, or a pattern of alerts as in ALERTS{alertname=~"StreamerModel.+|StreamerSeries.+"}.
    quoted = re.findall(r'alertname=~?"([^"]+)"', text) + re.findall(r"alertname: (\w+)", text)

    untested = {name for name in alert_names() if not any(re.fullmatch(pattern, name) for pattern in quoted)}

    assert untested == set()


def test_every_alert_has_a_section_in_the_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)

    assert sorted(headings) == sorted(alert_names())


def test_every_alert_tells_severity_what_to_read_and_where_to_look() -> None:
    for alert in alerts():
        name, annotations = alert["alert"], alert["annotations"]
        assert name.startswith("Streamer")
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert annotations["summary"], name
        assert annotations["description"], name
        assert annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert "/d/streamer-" in annotations["dashboard_url"], name


def test_alertmanager_inhibits_only_alerts_that_exist() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "alertmanager" / "alertmanager.yml").read_text())
    matchers = [
        matcher
        for rule in config["inhibit_rules"]
        for matcher in rule["source_matchers"] + rule["target_matchers"]
        if matcher.startswith("alertname")
    ]

    named = {name for matcher in matchers for name in re.findall(r"\bStreamer\w+", matcher)}

    assert named - alert_names() == set()


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def alert_names() -> set[str]:
    return {alert["alert"] for alert in alerts()}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
