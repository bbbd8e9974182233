"""Settings: who wins, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from streamer import config
from streamer.config import Settings
from streamer.errors import ConfigError

RECORDS = "records: {features: [a]}\n"
SASL = {"STREAMER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "STREAMER_KAFKA__SASL_USERNAME": "u"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamer.yaml"


def load(path: Path, text: str = "", **environ: str) -> Settings:
    path.write_text(RECORDS + text)
    return config.load(path, environ)


def refusal(path: Path, text: str = "", **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(path, text, **environ)
    return str(refused.value)


# ------------------------------------------------------------------------------------------------------ who wins


def test_defaults_hold_where_nothing_is_said(path: Path) -> None:
    settings = load(path)

    assert settings.window.length == 64
    assert settings.kafka.dlq_topic == "readings.dlq"
    assert settings.http.host == "127.0.0.1"


def test_the_environment_beats_files_of_secrets_and_these_the_yaml_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "value").write_text("from-file\n")
    text, file = "kafka: {group: from-yaml}", {"STREAMER_KAFKA__GROUP_FILE": str(tmp_path / "value")}

    assert load(path, text).kafka.group == "from-yaml"
    assert load(path, text, **file).kafka.group == "from-file"
    assert load(path, text, **file, STREAMER_KAFKA__GROUP="from-env").kafka.group == "from-env"


def test_the_environment_alone_is_enough() -> None:
    settings = config.load(None, {"STREAMER_RECORDS__FEATURES": "a, b.c ,d", "STREAMER_STATE__DIRECTORY": "none"})

    assert settings.records.features == ("a", "b.c", "d")
    assert settings.state.directory is None


def test_other_variables_are_none_of_our_business(path: Path) -> None:
    assert load(path, HOME="/x", STREAMERX_KAFKA__TOPIC="y", KAFKA__TOPIC="z").kafka.topic == "readings"


def test_directories_are_relative_to_the_file(path: Path) -> None:
    settings = load(path, "model: {directory: b}\nstate: {directory: /abs}")

    assert settings.model.directory == path.parent / "b"
    assert settings.state.directory == Path("/abs")


def test_settings_are_frozen(path: Path) -> None:
    settings = load(path)

    with pytest.raises(ValidationError, match="frozen"):
        settings.window.length = 8


# -------------------------------------------------------------------------------------------------- what is refused


def test_each_fault_has_its_line(path: Path) -> None:
    message = refusal(path, "http: {port: -1}\nwindow: {length: 1}", STREAMER_LOG__LEVEL="x")

    assert sorted(line.split(":")[0] for line in message.splitlines()) == ["http.port", "log.level", "window.length"]


def test_a_section_left_empty_is_all_defaults(path: Path) -> None:
    assert load(path, "kafka:").kafka.topic == "readings"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window: {length: 10}", "length must be a multiple of patch; got length 10 and patch 8"),
        ("window: {stride: 100}", "stride must be at most length 64; got 100"),
        ("alerting: {open_after: 9}", "open_after must be at most open_within 5; got 9"),
        ("kafka: {alerts_topic: readings}", "must differ; got ['readings', 'readings'"),
        ("kafka: {dead_letter_topic: readings}", "must differ"),
        ("records: {features: [a, a]}", "feature names must differ; got ['a', 'a']"),
        ("records: {features: []}", "records.features"),
        ("records: {features: a}", "records.features"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(path: Path, text: str, words: str) -> None:
    path.write_text(text if text.startswith("records") else RECORDS + text)

    with pytest.raises(ConfigError) as refused:
        config.load(path, {})

    assert words in str(refused.value)


def test_a_contradiction_says_where_it_stands(path: Path) -> None:
    assert str(path) in refusal(path, "window: {length: 10}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"- a", "holds a list"),
        (b"{", "wanted valid YAML"),
        (b"\xff", "wanted UTF-8 text"),
        (b"a: !!python/object/apply:os.system ['true']", "wanted valid YAML"),
        (b"[" * 5000, "wanted valid YAML"),
        (b"", "records.features: wanted a list of field names, such as [temperature, vibration]; got nothing"),
        (b"1: 2", "1: no such section; the sections are kafka, records"),
        (b"kafka:\n\ttopic: x", "indent with spaces, not tabs"),
        (b"kafka: {}\nkafka: {}", "line 2, column 1: 'kafka' stands here twice"),
        (b"kafka: {topic: a, topic: b}", "'topic' stands here twice"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        config.load(path, {})

    assert words in str(refused.value)


def test_a_missing_file_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config: wanted a readable YAML file; .*: No such file"):
        config.load(path, {})


# ------------------------------------------------------------------------------------------------------------ secrets


@pytest.mark.parametrize("key", ["sasl_password", "ssl_key_password"])
def test_a_secret_in_the_file_is_refused_unprinted_and_told_where_it_belongs(path: Path, key: str) -> None:
    message = refusal(path, f"kafka: {{{key}: hunter2}}")

    assert f"kafka.{key}" in message
    assert f"STREAMER_KAFKA__{key.upper()}_FILE" in message
    assert "hunter2" not in message


def test_a_secret_comes_from_the_environment_or_a_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")

    plain = load(path, STREAMER_KAFKA__SASL_PASSWORD="hunter2", **SASL)
    filed = load(path, STREAMER_KAFKA__SASL_PASSWORD_FILE=str(tmp_path / "password"), **SASL)

    for settings in (plain, filed):
        assert settings.kafka.sasl_password is not None
        assert settings.kafka.sasl_password.get_secret_value() == "hunter2"


def test_settings_never_print_their_secrets(path: Path) -> None:
    settings = load(path, STREAMER_KAFKA__SASL_PASSWORD="hunter2", **SASL)

    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert "hunter2" not in text


@pytest.mark.parametrize(
    "environ",
    [
        {"STREAMER_KAFKA__TOPIC": "bad topic"},
        {"STREAMER_KAFKA__NO_SUCH": "1"},
        {"STREAMER_KAFKA__BOOTSTRAP_SERVERS": "k:9092", "STREAMER_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        {"STREAMER_KAFKA__ALERTS_TOPIC": "readings"},
        {"STREAMER_KAFKA__SECURITY_PROTOCOL": "hunter"},
    ],
)
def test_errors_never_print_secrets(path: Path, environ: dict[str, str]) -> None:
    message = refusal(path, **{"STREAMER_KAFKA__SASL_PASSWORD": "hunter2", **SASL, **environ})

    assert "hunter2" not in message


def test_a_broken_file_does_not_print_its_secrets(path: Path) -> None:
    assert "hunter2" not in refusal(path, "kafka: {sasl_password: hunter2")


def test_a_secret_file_that_cannot_be_read_is_named(path: Path) -> None:
    message = refusal(path, STREAMER_KAFKA__SASL_PASSWORD_FILE="/no/such", **SASL)

    assert "kafka.sasl_password: wanted the name of a readable file in STREAMER_KAFKA__SASL_PASSWORD_FILE" in message
    assert "No such file" in message


@pytest.mark.parametrize("text", ["", "kafka: [{sasl_password: hunter2}]", "kafka: 'sasl_password hunter2'"])
def test_a_secret_in_the_wrong_place_is_not_printed(path: Path, text: str) -> None:
    environ = {} if text else {"STREAMER_KAFKA__SASL_PASSWORD_FILE": "hunter2"}

    message = refusal(path, text, **environ)

    assert "hunter2" not in message


def test_a_password_may_be_any_word(path: Path) -> None:
    load(path, STREAMER_KAFKA__SASL_PASSWORD="None", **SASL)


def test_a_login_needs_name_and_password(path: Path) -> None:
    assert "needs sasl_username and sasl_password" in refusal(path, "kafka: {security_protocol: SASL_SSL}")


# ---------------------------------------------------------------------------------------------------- plaintext


@pytest.mark.parametrize(
    "servers", ["k:9092", "127.0.0.1:9092,k:9092", "10.0.0.1:9092", "[2001:db8::1]:9092", "127.0.0.1.evil.example:9092"]
)
@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_an_unencrypted_connection_off_loopback_is_refused(path: Path, servers: str, protocol: str) -> None:
    environ = {**SASL, "STREAMER_KAFKA__SASL_PASSWORD": "p", "STREAMER_KAFKA__SECURITY_PROTOCOL": protocol}
    text = f"kafka: {{bootstrap_servers: '{servers}'}}"

    message = refusal(path, text, **environ)

    assert f"is not on loopback and {protocol} is not encrypted" in message
    assert load(path, text, **environ, STREAMER_KAFKA__ALLOW_INSECURE="true").kafka.allow_insecure
    encrypted = {**environ, "STREAMER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"}
    assert load(path, text, **encrypted).kafka.security_protocol == "SASL_SSL"


@pytest.mark.parametrize("servers", ["127.0.0.1:9092", "localhost:9092", "[::1]:9092", "127.0.0.9:1, localhost:2"])
def test_loopback_may_be_unencrypted(path: Path, servers: str) -> None:
    assert load(path, f"kafka: {{bootstrap_servers: '{servers}'}}").kafka.bootstrap_servers == servers


@pytest.mark.parametrize(
    "servers", ["127.0.0.1", "localhost", "::1", "[::1]", "kafka", "127.0.0.1:9092, kafka", ":9092"]
)
def test_a_bootstrap_server_without_its_port_is_told_so(path: Path, servers: str) -> None:
    message = refusal(path, f"kafka: {{bootstrap_servers: '{servers}', allow_insecure: true}}")

    assert "needs its port, host:port" in message
    assert "loopback" not in message


@pytest.mark.parametrize("servers", ["kafka:", "kafka:http", "kafka:0", "kafka:65536"])
def test_a_port_is_a_number(path: Path, servers: str) -> None:
    assert "is a number from 1 to 65535" in refusal(path, f"kafka: {{bootstrap_servers: '{servers}'}}")


def test_the_default_topics_are_those_of_the_documentation(path: Path) -> None:
    kafka = load(path, "").kafka

    assert (kafka.topic, kafka.alerts_topic, kafka.dlq_topic) == ("readings", "streamer.alerts", "readings.dlq")


# ------------------------------------------------------------------- settings that pass here and break a station later


@pytest.mark.parametrize("features", ["[stream]", "[timestamp]"])
def test_a_feature_that_is_also_stream_or_time_is_refused(path: Path, features: str) -> None:
    path.write_text(f"records: {{features: {features}}}")

    with pytest.raises(ConfigError):
        config.load(path, {})


def test_a_feature_inside_another_is_refused(path: Path) -> None:
    path.write_text("records: {features: [a, a.b]}")

    with pytest.raises(ConfigError):
        config.load(path, {})


def test_a_future_too_far_for_nanoseconds_is_refused(path: Path) -> None:
    path.write_text("records: {features: [a], max_future_s: 1.0e+10}")

    with pytest.raises(ConfigError):
        config.load(path, {})


def test_an_infinite_silence_is_refused(path: Path) -> None:
    refusal(path, "alerting: {silent_after: .inf}")


def test_a_gap_setting_shorter_than_a_bar_is_refused(path: Path) -> None:
    said = refusal(path, "time: {grid: 10s}\nwindow: {max_gap_s: 5}\n")

    assert "window.max_gap_s: wanted at least time.grid, 10 s" in said
    assert load(path, "time: {grid: 10s}\nwindow: {max_gap_s: 10}\n").window.max_gap_s == 10
