"""What may talk to what, if the cluster enforces network policies."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tests.deploy.charts import EXAMPLES, Manifest, Rendered, refusal, render, selects

DNS = {"namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
KAFKA = {"namespace": "kafka", "labels": {"strimzi.io/cluster": "main"}}
PROMETHEUS = {"namespace": "monitoring", "labels": {"app": "prometheus"}}
STRANGER = {"namespace": "shop", "labels": {"app": "web"}}
OUTSIDE = {"address": "93.184.216.34"}
INSIDE = {"address": "10.20.3.4"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_policy_covers_every_pod_in_both_directions(example: str) -> None:
    release = render(example, "{retrain: {enabled: true}}")
    policy = release.one("NetworkPolicy")["spec"]

    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    for kind, pod in release.pods():
        assert selects(policy["podSelector"]["matchLabels"], pod["metadata"]["labels"]), kind


@pytest.mark.parametrize("example", EXAMPLES)
def test_names_can_be_looked_up(example: str) -> None:
    release = render(example)

    assert leaves(release, DNS, 53, "UDP")
    assert leaves(release, DNS, 53, "TCP")
    assert not leaves(release, STRANGER, 53, "UDP")


@pytest.mark.parametrize("example", EXAMPLES)
def test_brokers_can_be_reached(example: str, tmp_path: Any) -> None:
    release = render(example)
    (servers,) = [line.split(": ", 1)[1] for line in release.config_text.splitlines() if "bootstrap_servers" in line]

    for server in servers.split(","):
        assert leaves(release, KAFKA, int(server.rpartition(":")[2]))


def test_nothing_else_can_be_reached() -> None:
    release = render("secured")

    assert not leaves(release, STRANGER, 9093), "the brokers are named"
    assert not leaves(release, KAFKA, 2181)
    assert not leaves(release, OUTSIDE, 443)
    assert not leaves(release, OUTSIDE, 9093)


def test_ports_that_brokers_advertise_can_be_added() -> None:
    release = render("everything")

    assert leaves(release, KAFKA, 9094)
    assert leaves(release, INSIDE, 8443)
    assert not leaves(release, OUTSIDE, 8443)


def test_the_object_store_can_be_reached_where_state_is_kept_in_it_and_only_there() -> None:
    assert leaves(render("object-store"), INSIDE, 443)
    assert not leaves(render("minimal"), INSIDE, 443)
    assert not leaves(render("local"), INSIDE, 443)


def test_the_schema_registry_can_be_reached_on_the_port_of_its_address() -> None:
    registry = "{{config: {{schema_registry: {{url: '{}'}}}}}}"

    assert leaves(render("object-store"), OUTSIDE, 443), "https without a port"
    assert leaves(render("minimal", registry.format("https://registry:8081")), OUTSIDE, 8081)
    assert leaves(render("minimal", registry.format("http://registry")), OUTSIDE, 80)
    assert not leaves(render("minimal"), OUTSIDE, 8081)


def test_the_identity_provider_can_be_reached_where_tokens_come_from_it() -> None:
    token = "{{config: {{kafka: {{oauth_token_url: '{}'}}}}}}"

    assert leaves(render("secured", token.format("https://id.example/oauth2/token")), OUTSIDE, 443)
    assert leaves(render("secured", token.format("https://id7:8443/token")), OUTSIDE, 8443)
    assert leaves(render("secured", token.format("https://id7/token")), OUTSIDE, 443), "a digit is no port"


@pytest.mark.parametrize("example", EXAMPLES)
def test_prometheus_alone_may_read_the_metrics(example: str) -> None:
    release = render(example)

    assert enters(release, PROMETHEUS, 9108)
    assert not enters(release, PROMETHEUS, 22)
    assert not enters(release, STRANGER, 9108)
    assert not enters(release, OUTSIDE, 9108)


def test_who_may_read_the_metrics_can_be_chosen() -> None:
    release = render("minimal", "{networkPolicy: {metricsFrom: [{podSelector: {matchLabels: {app: agent}}}]}}")

    assert enters(release, {"namespace": "telemetry", "labels": {"app": "agent"}}, 9108)
    assert not enters(release, PROMETHEUS, 9108)


def test_an_empty_list_of_readers_means_nobody() -> None:
    release = render("minimal", "{networkPolicy: {metricsFrom: []}}")

    assert not enters(release, PROMETHEUS, 9108)
    assert not enters(release, STRANGER, 9108)


def test_a_peer_that_is_none_is_refused() -> None:
    assert "networkPolicy.metricsFrom" in refusal("minimal", "{networkPolicy: {metricsFrom: monitoring}}")


def leaves(release: Rendered, peer: dict[str, Any], port: int, protocol: str = "TCP") -> bool:
    return _allowed(release.one("NetworkPolicy")["spec"]["egress"], "to", peer, port, protocol)


def enters(release: Rendered, peer: dict[str, Any], port: int) -> bool:
    return _allowed(release.one("NetworkPolicy")["spec"]["ingress"] or [], "from", peer, port, "TCP")


def _allowed(rules: list[Manifest], direction: str, peer: dict[str, Any], port: int, protocol: str) -> bool:
    """As a network plug-in decides: any rule of which a peer and a port match; no peers: all, no ports: all."""
    return any(
        (not rule.get(direction) or any(_matches(one, peer) for one in rule[direction]))
        and (not rule.get("ports") or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in rules
    )


def _matches(one: Manifest, peer: dict[str, Any]) -> bool:
    if "ipBlock" in one:
        return "address" in peer and ipaddress.ip_address(peer["address"]) in ipaddress.ip_network(
            one["ipBlock"]["cidr"]
        )
    if "address" in peer:
        return False
    namespace = one.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": "telemetry"}})
    inside = selects(namespace.get("matchLabels", {}), {"kubernetes.io/metadata.name": peer["namespace"]})
    return inside and selects(one.get("podSelector", {}).get("matchLabels", {}), peer["labels"])
