"""The configuration that reaches a pod is one that streamer accepts, and no secret is in any manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer import config
from streamer.config import SECRET_KEYS, Settings
from streamer.config.sinks import SINK_SECRETS
from tests.deploy.charts import (
    CHART,
    EXAMPLES,
    KUBERNETES,
    ROOT,
    Manifest,
    Rendered,
    environment,
    helm,
    refusal,
    render,
    run,
)

EVERYWHERE = pytest.mark.parametrize("example", EXAMPLES)


@EVERYWHERE
def test_streamer_accepts_what_every_pod_is_given(example: str, tmp_path: Path) -> None:
    rendered = render(example, "{retrain: {enabled: true}}")

    for kind, pod in rendered.pods():
        settings = loaded(rendered, pod["spec"]["containers"][0], tmp_path)
        assert settings.kafka.bootstrap_servers, kind


@EVERYWHERE
def test_metrics_and_probes_can_be_reached_from_outside_of_the_pod(example: str, tmp_path: Path) -> None:
    rendered = render(example)

    settings = loaded(rendered, rendered.container, tmp_path)

    assert settings.http.host == "0.0.0.0"
    (port,) = rendered.container["ports"]
    assert port["containerPort"] == settings.http.port
    (service_port,) = rendered.one("Service")["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]


@EVERYWHERE
def test_the_store_of_the_values_is_the_store_of_the_daemon(example: str, tmp_path: Path) -> None:
    rendered = render(example)
    values = yaml.safe_load((CHART / "ci" / f"{example}-values.yaml").read_text())

    settings = loaded(rendered, rendered.container, tmp_path)

    assert settings.state.store == values.get("state", {}).get("store", "topic")
    assert settings.state.topic == values.get("state", {}).get("topic")


@EVERYWHERE
def test_every_folder_that_is_written_is_a_volume(example: str, tmp_path: Path) -> None:
    rendered = render(example, "{retrain: {enabled: true}}")

    for kind, pod in rendered.pods():
        (container,) = pod["spec"]["containers"]
        settings = loaded(rendered, container, tmp_path)
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        written = {"/tmp"}
        if kind == "CronJob":
            assert settings.model.spool_directory is not None
            written |= {str(settings.model.directory), str(settings.model.spool_directory)}
        else:
            if settings.state.folder is not None:
                written.add(volume_of(settings.state.folder, container))
            assert str(settings.model.directory) in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert written <= writable, kind


@EVERYWHERE
def test_no_secret_is_in_any_manifest(example: str) -> None:
    rendered = render(example)
    settings = yaml.safe_load(rendered.config_text)

    assert rendered.kind("Secret") == []
    assert [f"{section}.{key}" for section, key in SECRET_KEYS if key in (settings.get(section) or {})] == []
    for _, pod in rendered.pods():
        for container in pod["spec"]["containers"]:
            for name, entry in environment(container).items():
                secret = any(name == f"STREAMER_{section}__{key}".upper() for section, key in SECRET_KEYS)
                assert not (secret or "SECRET" in name) or "value" not in entry, name


def test_a_secret_is_mounted_where_its_variable_says() -> None:
    rendered = render("secured")

    entry = environment(rendered.container)["STREAMER_KAFKA__SASL_PASSWORD_FILE"]

    assert mounted_from(rendered, entry["value"]) == ("streamer-user", "password")


def test_a_rotated_secret_reaches_a_running_pod() -> None:
    # What is mounted by subPath never changes in a pod.
    mounts = {mount["name"]: mount for mount in render("secured").container["volumeMounts"]}

    assert "subPath" not in mounts["secrets"]
    assert "subPath" not in mounts["files"]


def test_a_file_is_mounted_where_its_setting_says(tmp_path: Path) -> None:
    rendered = render("secured")

    settings = loaded(rendered, rendered.container, tmp_path)

    assert mounted_from(rendered, str(settings.kafka.ssl_cafile)) == ("main-cluster-ca-cert", "ca.crt")


@pytest.mark.parametrize("setting", sorted(f"{section}.{key}" for section, key in SECRET_KEYS))
def test_a_secret_in_the_configuration_is_refused_with_the_way_out(setting: str) -> None:
    section, _, key = setting.partition(".")

    said = refusal("minimal", f"{{config: {{{section}: {{{key}: hunter2}}}}}}")

    assert f"{setting} is a secret" in said
    assert f"secretSettings: [{{setting: {setting}, secretName: SECRET, key: KEY}}]" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("kind", sorted(SINK_SECRETS))
def test_a_secret_of_a_sink_in_the_configuration_is_refused_too(kind: str) -> None:
    for key in SINK_SECRETS[kind]:
        said = refusal("minimal", f"{{config: {{sinks: {{{kind}: {{ops: {{{key}: hunter2}}}}}}}}}}")

        assert f"secretSettings: [{{setting: sinks.{kind}.ops.{key}, secretName: SECRET, key: KEY}}]" in said
        assert "hunter2" not in said


def test_the_secret_of_a_sink_comes_from_a_secret() -> None:
    rendered = render(
        "minimal",
        "{config: {sinks: {webhook: {chat: {preset: slack}}}}, "
        "secretSettings: [{setting: sinks.webhook.chat.url, secretName: chat, key: url}]}",
    )

    entry = environment(rendered.container)["STREAMER_SINKS__WEBHOOK__CHAT__URL_FILE"]

    assert mounted_from(rendered, entry["value"]) == ("chat", "url")


def test_a_secret_in_a_configuration_file_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "streamer.yaml"
    file.write_text("kafka: {sasl_password: hunter2}\n")
    minimal = str(CHART / "ci" / "minimal-values.yaml")

    done = run(
        *(helm(), "template", "x", str(CHART), "--kube-version", KUBERNETES),
        *("--values", minimal, "--set-file", f"configFile={file}"),
    )

    assert done.returncode != 0
    assert "kafka.sasl_password is a secret" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.mark.parametrize("name", ["STREAMER_KAFKA__SASL_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_API_KEY"])
def test_a_secret_in_the_environment_is_refused_unless_it_is_a_reference(name: str) -> None:
    said = refusal("minimal", f"{{extraEnv: [{{name: {name}, value: hunter2}}]}}")
    assert f"{name} looks like a secret" in said
    assert "hunter2" not in said

    reference = f"{{extraEnv: [{{name: {name}, valueFrom: {{secretKeyRef: {{name: s, key: k}}}}}}]}}"
    assert name in environment(render("minimal", reference).container)


def test_what_init_wrote_can_be_installed_as_it_is(tmp_path: Path) -> None:
    file = ROOT / "deploy" / "streamer.yaml"

    rendered = render("minimal", set_file=f"configFile={file}")

    settings = loaded(rendered, rendered.container, tmp_path)
    assert settings.features == ("load", "temperature"), "values are stronger than the file"
    assert settings.kafka.bootstrap_servers == "kafka.kafka:9092"
    assert settings.alerting.budget_per_stream_per_week == 60, "the rest is as the file has it"
    assert settings.kafka.create_topics


def test_every_example_configuration_survives_the_way_through_the_chart(tmp_path: Path) -> None:
    for file in sorted((ROOT / "examples").glob("*.yaml")):
        kafka = "{config: {kafka: {bootstrap_servers: 'kafka:9092', allow_insecure: true}}}"
        done = run(
            *(
                helm(),
                "template",
                "x",
                str(CHART),
                "--kube-version",
                "1.30.0",
                "--show-only",
                "templates/configmap.yaml",
            ),
            *("--values", "-", "--set-file", f"configFile={file}"),
            text=kafka,
        )
        assert done.returncode == 0, done.stderr
        there = tmp_path / file.name
        there.write_text(yaml.safe_load(done.stdout)["data"]["streamer.yaml"])

        before, after = config.load(file, {}), config.load(there, {})

        for section in ("records", "time", "sessions", "rules", "window", "alerting"):
            assert getattr(after, section) == getattr(before, section), (file.name, section)


def test_a_setting_can_be_turned_off_with_null(tmp_path: Path) -> None:
    rendered = render("everything")

    assert loaded(rendered, rendered.container, tmp_path).alerting.silent_after is None


def test_large_numbers_stay_numbers(tmp_path: Path) -> None:
    rendered = render("minimal", "{config: {records: {max_record_bytes: 12345678}, model: {learning_rate: 1.0e-5}}}")

    settings = loaded(rendered, rendered.container, tmp_path)

    assert settings.records.max_record_bytes == 12_345_678
    assert settings.model.learning_rate == 1e-5


def test_alerts_link_to_grafana_where_it_is_known(tmp_path: Path) -> None:
    rendered = render("minimal", "{grafana: {url: 'https://grafana.example/'}}")

    settings = loaded(rendered, rendered.container, tmp_path)

    assert settings.alerting.dashboard_url == "https://grafana.example/d/streamer-stream"


def test_replicas_are_told_apart_in_the_logs_of_the_broker(tmp_path: Path) -> None:
    rendered = render("minimal")

    assert loaded(rendered, rendered.container, tmp_path).kafka.client_id == "pod-of-metadata.name"


def test_a_service_of_another_name_cannot_become_a_setting() -> None:
    # Kubernetes would put STREAMER_..._SERVICE_HOST into the environment for every Service of the namespace.
    for kind, pod in render("everything").pods():
        assert pod["spec"]["enableServiceLinks"] is False, kind


def loaded(rendered: Rendered, container: Manifest, folder: Path) -> Settings:
    """The settings that streamer would have in this container."""
    file = folder / "streamer.yaml"
    file.write_text(rendered.config_text)
    environ = {name: value_of(entry, folder) for name, entry in environment(container).items()}
    return config.load(file, environ)


def volume_of(folder: Path, container: Manifest) -> str:
    """The mount that a folder is on."""
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    (found,) = [str(mount) for mount in mounts if folder.is_relative_to(mount)]
    return found


def value_of(entry: dict[str, Any], folder: Path) -> str:
    """What a variable would hold; of a mounted file, a stand-in."""
    if "value" not in entry:
        (source,) = entry["valueFrom"].values()
        return f"pod-of-{source['fieldPath']}" if "fieldPath" in source else "from-a-secret"
    value: str = entry["value"]
    if entry["name"].endswith("_FILE"):
        stand_in = folder / Path(value).name
        stand_in.write_text("from-a-file\n")
        return str(stand_in)
    return value


def mounted_from(rendered: Rendered, path: str) -> tuple[str, str]:
    """Which Secret, and which key of it, stands at `path` in the container."""
    (volume,) = [
        mount["name"] for mount in rendered.container["volumeMounts"] if mount["mountPath"] == str(Path(path).parent)
    ]
    (projected,) = [one["projected"] for one in rendered.pod["spec"]["volumes"] if one["name"] == volume]
    ((name, key),) = [
        (source["secret"]["name"], item["key"])
        for source in projected["sources"]
        for item in source["secret"]["items"]
        if item["path"] == Path(path).name
    ]
    return name, key
