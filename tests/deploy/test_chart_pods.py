"""What a cluster does with the pods: who they run as, when they are restarted, replaced, moved and evicted."""

from __future__ import annotations

import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config import HttpConfig
from streamer.observability.web import WebServer
from streamer.runtime import daemon
from tests.deploy.charts import CHART, EXAMPLES, ROOT, refusal, render, render_chart, selects
from tests.deploy.test_chart_manifests import MATRIX, rendered

EVERYWHERE = pytest.mark.parametrize("case", MATRIX)
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# Of a pod template, what may differ between two releases of the same values.
EVERYTHING = "{retrain: {enabled: true}}"


# ------------------------------------------------------------------------------------------------ kind and replicas


@pytest.mark.parametrize(
    ("example", "kind"),
    [
        ("minimal", "Deployment"),
        ("object-store", "Deployment"),
        ("shared-folder", "Deployment"),
        ("local", "StatefulSet"),
    ],
)
def test_the_state_store_decides_what_kind_of_workload_it_is(example: str, kind: str) -> None:
    assert render(example).workload["kind"] == kind


def test_local_state_is_on_a_volume_of_the_replicas_own_that_outlives_it() -> None:
    stateful = render("local").one("StatefulSet")

    (claim,) = stateful["spec"]["volumeClaimTemplates"]

    mounts = {mount["name"]: mount["mountPath"] for mount in render("local").container["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == "/var/lib/streamer/state"
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert stateful["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert stateful["spec"]["serviceName"] == render("local").one("Service")["metadata"]["name"]


def test_more_than_one_replica_with_local_state_is_refused_unless_asked_for_in_so_many_words() -> None:
    said = refusal("local", "{replicaCount: 2}")
    assert "replicaCount: wanted 1 with state.store: local; got 2" in said
    assert "state.store: topic" in said

    allowed = render("local", "{replicaCount: 2, state: {allowInexactReplicas: true}}")
    assert allowed.workload["spec"]["replicas"] == 2


def test_shared_state_needs_the_volume_it_is_kept_in() -> None:
    assert "state.existingClaim: wanted a claim" in refusal("shared-folder", "{state: {existingClaim: ''}}")
    assert "wanted a folder of the shared volume" in refusal("shared-folder", "{state: {store: 'file:///tmp/state'}}")
    assert "state.existingClaim: goes with" in refusal("minimal", "{state: {existingClaim: some}}")


def test_every_replica_of_a_shared_folder_mounts_the_same_claim() -> None:
    volumes = {volume["name"]: volume for volume in render("shared-folder").pod["spec"]["volumes"]}

    assert volumes["shared-state"]["persistentVolumeClaim"]["claimName"] == "streamer-state"


# -------------------------------------------------------------------------------------------------------- security


@EVERYWHERE
def test_pods_meet_the_restricted_pod_security_standard(case: str) -> None:
    for kind, pod in rendered(case).pods():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, kind
        assert spec["securityContext"]["runAsNonRoot"] is True, kind
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, kind
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), kind
        assert all("hostPath" not in volume for volume in spec["volumes"]), kind
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, kind
            assert context["allowPrivilegeEscalation"] is False, kind
            assert context["capabilities"] == {"drop": ["ALL"]}, kind
            assert not context.get("privileged"), kind


def test_pods_run_as_the_user_of_the_image() -> None:
    match = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert match is not None

    for kind, pod in render("everything").pods():
        context = pod["spec"]["securityContext"]
        assert context["runAsUser"] == int(match[1]), kind
        assert context["runAsGroup"] == context["fsGroup"] == int(match[2]), kind


def test_the_user_can_be_left_to_the_cluster() -> None:
    context = rendered("any-user").pod["spec"]["securityContext"]

    assert context["runAsNonRoot"] is True
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()


def test_secrets_can_be_read_by_the_pod_and_by_nobody_else() -> None:
    for kind, pod in render("everything", EVERYTHING).pods():
        projected = [volume["projected"] for volume in pod["spec"]["volumes"] if "projected" in volume]
        assert [one["defaultMode"] for one in projected] == [0o440] * 2, kind


@EVERYWHERE
def test_every_mount_has_its_volume_and_every_volume_its_mount(case: str) -> None:
    for kind, pod in rendered(case).pods():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        if kind == "StatefulSet":
            claims = rendered(case).one("StatefulSet")["spec"]["volumeClaimTemplates"]
            volumes |= {claim["metadata"]["name"] for claim in claims}
        mounts = {mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]}
        assert mounts == volumes, kind


@EVERYWHERE
def test_only_retraining_can_write_bundles(case: str) -> None:
    for kind, pod in rendered(case).pods():
        mounts = {mount["name"]: mount for mount in pod["spec"]["containers"][0]["volumeMounts"]}
        assert mounts["bundles"].get("readOnly", False) is (kind != "CronJob"), kind


def test_the_daemon_knows_how_much_memory_it_has() -> None:
    assert yaml.safe_load(render("minimal").config_text)["limits"] == {"memory_mb": 1024}
    assert yaml.safe_load(render("guarded").config_text)["limits"] == {"memory_mb": 2048}
    smaller = "{resources: {limits: {memory: 1536Mi}}, config: {limits: {memory_mb: 1000}}}"
    assert yaml.safe_load(render("minimal", smaller).config_text)["limits"] == {"memory_mb": 1000}
    said = refusal("minimal", "{config: {limits: {memory_mb: 4096}}}")
    assert "config.limits.memory_mb: wanted at most the memory limit of a replica, 1024; got 4096" in said
    assert "wanted at least 512Mi; got 256Mi" in refusal("minimal", "{resources: {limits: {memory: 256Mi}}}")


def test_memory_is_limited_and_the_processor_is_not() -> None:
    resources = render("minimal").container["resources"]

    assert resources["limits"]["memory"] == "1Gi"
    assert "cpu" not in resources["limits"], "a throttled replica is evicted from its group"
    assert resources["requests"]["cpu"]


# ---------------------------------------------------------------------------------------------------------- probes


def test_probes_ask_what_the_daemon_answers() -> None:
    container = render("minimal").container
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    answers = served()

    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in asked.values()} == {"metrics"}
    assert {probe["scheme"] for probe in asked.values()} == {"HTTP"}
    assert {probe["path"]: answers[probe["path"]] for probe in asked.values()} == {"/healthz": 200, "/readyz": 503}


@EVERYWHERE
def test_probes_and_prometheus_speak_tls_where_the_daemon_does(case: str) -> None:
    release = rendered(case)
    tls = "tls_certfile" in yaml.safe_load(release.config_text)["http"]
    probes = [release.container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")]

    assert probes == ["HTTPS" if tls else "HTTP"] * 3
    for monitor in release.kind("ServiceMonitor"):
        assert [one["scheme"] for one in monitor["spec"]["endpoints"]] == ["https" if tls else "http"]


def test_a_port_that_probes_could_not_ask_is_refused() -> None:
    assert "config.http.open_health: wanted true" in refusal("minimal", "{config: {http: {open_health: false}}}")


def test_a_broker_that_is_away_restarts_nothing() -> None:
    # Not ready, and alive: the daemon above answers so while it waits for its broker.
    assert render("minimal").container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_the_pod_starts_the_command_of_the_image_with_the_file_that_is_mounted() -> None:
    container = render("minimal").container

    assert 'ENTRYPOINT ["streamer"]' in DOCKERFILE
    assert "command" not in container
    assert container["args"] == ["run", "--config", "/etc/streamer/streamer.yaml"]
    assert "/etc/streamer/streamer.yaml" in {mount["mountPath"] for mount in container["volumeMounts"]}


# ------------------------------------------------------------------------------------------- replacing and evicting


def test_a_replica_has_time_for_its_last_checkpoint() -> None:
    given_s = render("minimal").pod["spec"]["terminationGracePeriodSeconds"]

    assert given_s == 30
    assert given_s >= 20 + daemon.SHUTDOWN_FLUSH_S / 4
    assert "terminationGracePeriodSeconds" in refusal("minimal", "{terminationGracePeriodSeconds: 5}")


def test_one_replica_is_replaced_at_a_time() -> None:
    spec = render("minimal").workload["spec"]

    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert spec["minReadySeconds"] > 0
    assert spec["revisionHistoryLimit"] == 5
    assert render("local").workload["spec"]["updateStrategy"] == {"type": "RollingUpdate"}


def test_a_rollback_replaces_a_replica_that_never_got_ready() -> None:
    # With OrderedReady a StatefulSet waits for the broken pod for ever.
    assert render("local").workload["spec"]["podManagementPolicy"] == "Parallel"


def test_an_update_that_could_not_proceed_is_refused() -> None:
    assert "no replica could ever be replaced" in refusal("minimal", "{updateStrategy: {maxUnavailable: 0}}")


def test_a_changed_configuration_replaces_the_pods_and_nothing_else_does() -> None:
    before = render("minimal").pod

    assert render("minimal", "{config: {window: {stride: 2}}}").pod["metadata"] != before["metadata"]
    for unrelated in (
        "{replicaCount: 5}",
        "{retrain: {enabled: true}}",
        "{serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboards: {enabled: true}}",
        "{networkPolicy: {enabled: false}}",
    ):
        assert render("minimal", unrelated).pod == before, unrelated


def test_a_newer_chart_alone_replaces_no_pod(tmp_path: Path) -> None:
    newer = tmp_path / "streamer"
    shutil.copytree(CHART, newer)
    chart = yaml.safe_load((newer / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump({**chart, "version": "9.9.9"}))

    assert render_chart(newer).pod == render_chart(CHART).pod
    # Kubernetes refuses to change these at all.
    claims = [render_chart(chart, "local").workload["spec"]["volumeClaimTemplates"] for chart in (newer, CHART)]
    assert claims[0] == claims[1]


@EVERYWHERE
def test_selectors_find_the_replicas_and_no_other_pod(case: str) -> None:
    release = rendered(case)
    selector = release.workload["spec"]["selector"]["matchLabels"]

    for kind, pod in release.pods():
        assert selects(selector, pod["metadata"]["labels"]) is (kind in ("Deployment", "StatefulSet")), kind
    assert release.one("Service")["spec"]["selector"] == selector
    for budget in release.kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"] == selector
    for constraint in release.pod["spec"].get("topologySpreadConstraints", []):
        assert constraint["labelSelector"]["matchLabels"] == selector


def test_a_selector_never_changes_because_kubernetes_would_refuse_the_upgrade() -> None:
    selectors = [rendered(case).workload["spec"]["selector"] for case in MATRIX]

    assert selectors == [selectors[0]] * len(MATRIX)
    assert "what the pods are selected by" in refusal("minimal", "{podLabels: {app.kubernetes.io/component: other}}")
    assert "what the pods are selected by" in refusal("minimal", "{commonLabels: {app.kubernetes.io/name: other}}")


def test_two_releases_in_one_namespace_keep_apart() -> None:
    one, other = render("minimal", release="presses"), render("minimal", release="pumps")

    assert not selects(one.workload["spec"]["selector"]["matchLabels"], other.pod["metadata"]["labels"])
    names = [{(each["kind"], each["metadata"]["name"]) for each in release.manifests} for release in (one, other)]
    assert names[0] & names[1] == set()


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_node_can_always_be_drained(example: str) -> None:
    budget = render(example).one("PodDisruptionBudget")["spec"]

    # minAvailable would block it with one replica; unready pods, as while the broker is away, block it by default.
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "podDisruptionBudget.maxUnavailable" in refusal("minimal", "{podDisruptionBudget: {maxUnavailable: 0}}")


def test_replicas_are_spread_over_nodes_and_zones_where_there_are_any() -> None:
    constraints = render("minimal").pod["spec"]["topologySpreadConstraints"]

    assert [one["topologyKey"] for one in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert {one["whenUnsatisfiable"] for one in constraints} == {"ScheduleAnyway"}


# ------------------------------------------------------------------------------------------------------- retraining


def test_retraining_publishes_to_the_volume_that_the_replicas_read() -> None:
    release = render("local", EVERYTHING)

    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for _, pod in release.pods()
        for volume in pod["spec"]["volumes"]
        if volume["name"] == "bundles"
    ]

    assert set(claims) == {"bundles"}
    assert release.kind("PersistentVolumeClaim") == []


def test_a_claim_for_bundles_is_made_if_there_is_none_and_survives_the_release() -> None:
    claim = render("minimal").one("PersistentVolumeClaim")

    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_retraining_runs_a_command_that_streamer_has() -> None:
    from streamer.cli.arguments import parse

    job = render("everything").one("CronJob")["spec"]
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]

    options = parse(container["args"])

    assert options.command == "retrain"
    assert options.from_kafka
    assert options.since is not None
    assert options.warm_start == "current"
    assert options.no_promote
    assert job["concurrencyPolicy"] == "Forbid"


def test_helm_test_runs_the_check_that_streamer_has() -> None:
    from streamer.cli.arguments import parse

    pod = render("minimal").one("Pod")

    assert parse(pod["spec"]["containers"][0]["args"]).command == "check"
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert pod["spec"]["restartPolicy"] == "Never"


def served() -> dict[str, int]:
    """What a daemon that waits for its broker answers, by path."""

    def metrics(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    server = WebServer(HttpConfig(port=0), metrics=metrics, healthy=lambda: None, ready=lambda: "broker away")
    found = {}
    try:
        for path in ("/healthz", "/readyz", "/metrics"):
            try:
                with urllib.request.urlopen(server.address + path, timeout=5) as answer:
                    found[path] = answer.status
            except urllib.error.HTTPError as error:
                found[path] = error.code
    finally:
        server.close()
    return found
