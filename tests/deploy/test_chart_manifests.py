"""Every manifest of every example: accepted by Helm's linter and by the schemas of Kubernetes."""

from __future__ import annotations

import functools
import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streamer import __version__
from tests.deploy.charts import CHART, EXAMPLES, KUBERNETES, Rendered, helm, render, run, values_file

# The oldest version that Chart.yaml admits, and the newest of which there are schemas.
VERSIONS = ["1.27", kubernetes_validate.latest_version()]
# Of operators, not of Kubernetes: test_chart_monitoring and test_chart_scaling look at them.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}
MORE: dict[str, tuple[str, str]] = {
    "two-inexact-replicas": ("local", "{replicaCount: 2, state: {allowInexactReplicas: true}}"),
    "nothing-optional": (
        "minimal",
        "{networkPolicy: {enabled: false}, podDisruptionBudget: {enabled: false}, serviceAccount: {create: false}, "
        "topologySpreadConstraints: [], resources: {}}",
    ),
    "stopped": ("local", "{replicaCount: 0}"),
    "retraining-alone": ("secured", "{retrain: {enabled: true}}"),
    "scaled-with-scram": ("secured", "{autoscaling: {enabled: true, partitions: 6}}"),
    "monitored": ("object-store", "{serviceMonitor: {enabled: true}, prometheusRule: {enabled: true, scope: release}}"),
    "any-user": ("shared-folder", "{podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}}"),
}
MATRIX = {**{name: (name, "") for name in EXAMPLES}, **MORE}


@functools.cache
def rendered(case: str) -> Rendered:
    return render(*MATRIX[case])


@pytest.mark.parametrize("example", EXAMPLES)
def test_helm_finds_nothing_to_complain_of(example: str) -> None:
    done = run(
        helm(), "lint", "--strict", str(CHART), "--kube-version", KUBERNETES, "--values", str(values_file(example))
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("case", MATRIX)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(case: str, version: str) -> None:
    manifests = [one for one in rendered(case).manifests if one["kind"] not in CUSTOM]

    for manifest in manifests:
        valid(json.dumps(manifest, sort_keys=True), version)
    assert manifests


@pytest.mark.parametrize("case", MATRIX)
def test_no_name_is_taken_twice(case: str) -> None:
    manifests = rendered(case).manifests

    names = [(one["kind"], one["metadata"]["name"]) for one in manifests]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", MATRIX)
def test_names_are_short_enough_whatever_the_release_is_called(case: str) -> None:
    manifests = render(*MATRIX[case], release="a-release-with-a-name-as-long-as-helm-permits-it-abc").manifests

    for one in manifests:
        longest = 52 if one["kind"] == "CronJob" else 63
        assert len(one["metadata"]["name"]) <= longest, one["metadata"]["name"]


def test_chart_and_product_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__


@functools.cache
def valid(manifest: str, version: str) -> None:
    """Hold one manifest against the schemas of one version; strict: an unknown field is an error."""
    one: dict[str, Any] = json.loads(manifest)
    kubernetes_validate.validate(one, version, strict=True)
