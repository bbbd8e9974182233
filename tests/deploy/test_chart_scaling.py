"""Scaling on lag by KEDA: what it watches, how far it goes, how it logs in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.charts import Rendered, environment, refusal, render

SCALED = "{autoscaling: {enabled: true, partitions: 6}}"


def test_keda_watches_the_lag_of_the_daemons_group_on_its_topic() -> None:
    release = render("everything")

    metadata = trigger(release)["metadata"]

    assert metadata["consumerGroup"] == "machines"
    assert metadata["topic"] == "machines"
    assert metadata["bootstrapServers"] == "kafka.kafka:9093"
    assert metadata["offsetResetPolicy"] == "latest", "as kafka.start"
    assert metadata["limitToPartitionsWithLag"] == "true"
    assert all(isinstance(value, str) for value in metadata.values()), "KEDA takes text only"


def test_what_the_configuration_does_not_say_is_the_default_of_the_daemon() -> None:
    from streamer.config import KafkaConfig

    metadata = trigger(render("minimal", SCALED))["metadata"]

    assert metadata["consumerGroup"] == KafkaConfig().group
    assert metadata["topic"] == KafkaConfig().topic
    assert metadata["offsetResetPolicy"] == KafkaConfig().start


def test_keda_scales_what_the_chart_installs_and_the_chart_leaves_the_number_to_it() -> None:
    release = render("everything")
    spec = release.one("ScaledObject")["spec"]

    assert release.one("ScaledObject")["apiVersion"] == "keda.sh/v1alpha1"
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": release.workload["metadata"]["name"],
    }
    assert "replicas" not in release.workload["spec"], "an upgrade would undo what KEDA did"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 8)


def test_there_are_never_more_replicas_than_partitions() -> None:
    assert render("minimal", SCALED).one("ScaledObject")["spec"]["maxReplicaCount"] == 6
    assert trigger(render("minimal", SCALED))["metadata"]["allowIdleConsumers"] == "false"
    assert "wanted how many partitions" in refusal("minimal", "{autoscaling: {enabled: true}}")
    said = refusal("minimal", "{autoscaling: {enabled: true, partitions: 6, maxReplicas: 7}}")
    assert "autoscaling.maxReplicas: wanted at most the partitions of the input topic, 6; got 7" in said
    said = refusal("minimal", "{autoscaling: {enabled: true, partitions: 6, minReplicas: 7}}")
    assert "autoscaling.minReplicas: wanted at most" in said


def test_there_is_always_somebody_who_watches() -> None:
    assert "autoscaling.minReplicas" in refusal("minimal", "{autoscaling: {minReplicas: 0}}")
    assert trigger(render("minimal", SCALED))["metadata"]["scaleToZeroOnInvalidOffset"] == "false"


def test_it_goes_down_more_slowly_than_up_since_every_change_moves_partitions() -> None:
    behaviour = render("minimal", SCALED).one("ScaledObject")["spec"]["advanced"]["horizontalPodAutoscalerConfig"][
        "behavior"
    ]

    up, down = behaviour["scaleUp"], behaviour["scaleDown"]
    assert down["stabilizationWindowSeconds"] > up["stabilizationWindowSeconds"] > 0
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]


def test_state_that_does_not_move_is_not_scaled() -> None:
    assert "autoscaling.enabled: not with state.store: local" in refusal("local", SCALED)


def test_keda_logs_in_with_the_secrets_of_the_daemon() -> None:
    release = render("secured", SCALED)

    (auth,) = release.kind("TriggerAuthentication")

    assert trigger(release)["authenticationRef"] == {"name": auth["metadata"]["name"]}
    assert trigger(release)["metadata"]["sasl"] == "scram_sha512"
    assert trigger(release)["metadata"]["tls"] == "enable"
    assert parameters(auth) == {"password": ("streamer-user", "password"), "ca": ("main-cluster-ca-cert", "ca.crt")}
    # The name is no secret: KEDA takes it from the environment of the container.
    (source,) = auth["spec"]["env"]
    assert source["parameter"] == "username"
    assert source["containerName"] == release.container["name"]
    assert environment(release.container)[source["name"]]["value"] == "streamer"


def test_keda_takes_the_name_from_the_secret_where_the_daemon_does() -> None:
    release = render("object-store", SCALED)

    (auth,) = release.kind("TriggerAuthentication")

    assert parameters(auth) == {"username": ("kafka-login", "username"), "password": ("kafka-login", "password")}
    assert "env" not in auth["spec"]


def test_keda_presents_the_client_certificate_of_the_daemon() -> None:
    release = render("everything")

    (auth,) = release.kind("TriggerAuthentication")

    assert parameters(auth).keys() == {"ca", "cert", "key", "keyPassword"}
    assert "sasl" not in trigger(release)["metadata"]


def test_without_a_login_there_is_none() -> None:
    release = render("minimal", SCALED)

    assert release.kind("TriggerAuthentication") == []
    assert "authenticationRef" not in trigger(release)
    assert not {"sasl", "tls"} & trigger(release)["metadata"].keys()


def test_a_login_of_ones_own_can_be_named() -> None:
    release = render("secured", "{autoscaling: {enabled: true, partitions: 6, triggerAuthentication: kafka}}")

    assert trigger(release)["authenticationRef"] == {"name": "kafka"}
    assert release.kind("TriggerAuthentication") == []
    # KEDA refuses what is said both there and here.
    assert not {"sasl", "tls"} & trigger(release)["metadata"].keys()


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "AWS_MSK_IAM"])
def test_a_login_that_keda_cannot_have_from_the_chart_needs_one_of_its_own(mechanism: str) -> None:
    kafka = f"{{kafka: {{sasl_mechanism: {mechanism}}}}}"

    said = refusal("secured", f"{{config: {kafka}, autoscaling: {{enabled: true, partitions: 6}}}}")
    assert f"how KEDA logs in with {mechanism}" in said

    own = "{enabled: true, partitions: 6, triggerAuthentication: kafka}"
    assert trigger(render("secured", f"{{config: {kafka}, autoscaling: {own}}}"))["authenticationRef"]


@pytest.mark.parametrize(("mechanism", "word"), [("PLAIN", "plaintext"), ("SCRAM-SHA-256", "scram_sha256")])
def test_every_login_of_the_daemon_has_its_word_in_keda(mechanism: str, word: str) -> None:
    values = f"{{config: {{kafka: {{sasl_mechanism: {mechanism}}}}}, autoscaling: {{enabled: true, partitions: 6}}}}"

    assert trigger(render("secured", values))["metadata"]["sasl"] == word


def trigger(release: Rendered) -> dict[str, Any]:
    (found,) = release.one("ScaledObject")["spec"]["triggers"]
    assert found["type"] == "kafka"
    assert isinstance(found, dict)
    return found


def parameters(auth: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["parameter"]: (one["name"], one["key"]) for one in auth["spec"]["secretTargetRef"]}
