"""What Prometheus, Alertmanager and Grafana get from the chart."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.charts import ROOT, Manifest, refusal, render, run, selects

RULES = ROOT / "deploy" / "prometheus" / "rules" / "streamer.yml"
MONITORED = "{serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboards: {enabled: true}}"
# Fields of the custom resources, from the API reference of the Prometheus operator.
ENDPOINT_FIELDS = {
    *("port", "path", "scheme", "interval", "scrapeTimeout", "relabelings"),
    *("basicAuth", "authorization", "tlsConfig"),
}
RULE_FIELDS = {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}


def test_nothing_of_an_operator_is_installed_unless_asked_for() -> None:
    kinds = {one["kind"] for one in render("minimal").manifests}

    assert kinds & {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication", "CronJob"} == set()


def test_the_service_monitor_finds_the_service_and_its_port() -> None:
    release = render("minimal", MONITORED)
    monitor, service = release.one("ServiceMonitor"), release.one("Service")
    (endpoint,) = monitor["spec"]["endpoints"]

    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert selects(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["telemetry"]}
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert endpoint["path"] == "/metrics"
    assert endpoint["scheme"] == "http"
    assert set(endpoint) <= ENDPOINT_FIELDS


def test_a_replica_that_is_not_ready_is_still_scraped() -> None:
    assert render("minimal").one("Service")["spec"]["publishNotReadyAddresses"] is True


def test_a_login_for_the_metrics_is_a_reference() -> None:
    login = "{username: {name: metrics, key: user}, password: {name: metrics, key: password}}"
    (endpoint,) = render("minimal", f"{{serviceMonitor: {{enabled: true, basicAuth: {login}}}}}").one("ServiceMonitor")[
        "spec"
    ]["endpoints"]

    assert endpoint["basicAuth"]["password"] == {"name": "metrics", "key": "password"}
    assert "serviceMonitor.basicAuth.password" in refusal("minimal", "{serviceMonitor: {basicAuth: {password: x}}}")


def test_a_scrape_that_would_be_refused_is_refused_at_the_installation() -> None:
    assert "asks for a login, and Prometheus has none" in refusal("guarded", "{serviceMonitor: {basicAuth: null}}")
    client = "{fileSettings: [{setting: http.tls_client_cafile, secretName: ca, key: ca.crt}]}"
    assert "asks for a client certificate" in refusal("guarded", client)


def test_rules_are_those_of_the_repository() -> None:
    (group_list,) = [one["spec"]["groups"] for one in render("minimal", MONITORED).kind("PrometheusRule")]

    text = RULES.read_text().replace("http://127.0.0.1:3000", "")
    assert group_list == yaml.safe_load(text)["groups"]
    for rule in rules_of(group_list):
        assert set(rule) <= RULE_FIELDS
        assert isinstance(rule["expr"], str)


def test_promtool_accepts_the_rules_of_every_release(tmp_path: Path) -> None:
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is neither in PROMTOOL nor on PATH; it comes with Prometheus")
    for scope in ("all", "release"):
        values = f"{{prometheusRule: {{enabled: true, scope: {scope}}}, metrics: {{job: prod/presses}}}}"
        spec = render("minimal", values).one("PrometheusRule")["spec"]
        file = tmp_path / f"{scope}.yml"
        file.write_text(yaml.safe_dump(spec))

        done = run(promtool, "check", "rules", str(file))

        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_scrapes_of_a_release_agree_on_its_job() -> None:
    release = render("minimal", MONITORED, release="presses")
    (endpoint,) = release.one("ServiceMonitor")["spec"]["endpoints"]
    (relabeling,) = endpoint["relabelings"]
    expressions = " ".join(rule["expr"] for rule in rules_of(release.one("PrometheusRule")["spec"]["groups"]))

    assert relabeling == {"action": "replace", "targetLabel": "job", "replacement": "presses-streamer"}
    assert 'absent(up{job="presses-streamer"})' in expressions
    assert 'job="streamer"' not in expressions


def test_a_second_release_brings_the_rules_about_itself_alone() -> None:
    values = "{prometheusRule: {enabled: true, scope: release}}"
    rules = rules_of(render("minimal", values, release="pumps").one("PrometheusRule")["spec"]["groups"])

    assert "StreamerDown" in {rule["alert"] for rule in rules}
    assert all('job="pumps-streamer"' in rule["expr"] for rule in rules)


def test_links_in_alerts_lead_to_grafana_and_to_the_runbook() -> None:
    rules = rules_of(render("everything").one("PrometheusRule")["spec"]["groups"])
    notes = {rule["alert"]: rule["annotations"] for rule in rules if "alert" in rule}

    assert all(note["dashboard_url"].startswith("https://grafana.example/d/streamer-") for note in notes.values())
    assert notes["StreamerDown"]["runbook_url"] == "https://wiki.example/streamer/runbook#streamerdown"


def test_dashboards_are_those_of_the_repository_and_grafana_finds_them() -> None:
    maps = [one for one in render("minimal", MONITORED).kind("ConfigMap") if "dashboard" in one["metadata"]["name"]]
    shipped = {path.name: json.loads(path.read_text()) for path in (ROOT / "dashboards" / "json").glob("*.json")}

    found: dict[str, Any] = {}
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"]["grafana_folder"] == "Streamer"
        found |= {name.removeprefix("streamer-"): json.loads(text) for name, text in one["data"].items()}
    assert found == shipped
    assert len(maps) == len(shipped), "one each, since a ConfigMap holds at most 1 MiB"


def rules_of(groups: list[Manifest]) -> list[Manifest]:
    return [rule for group in groups for rule in group["rules"]]
