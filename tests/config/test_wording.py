"""What is said of a wrong setting: key, wanted, got, where from; in no words but the user's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer import config
from streamer.config import Settings
from streamer.errors import ConfigError

RECORDS = "records: {features: [a]}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamer.yaml"


def refusal(path: Path, text: str, **environ: str) -> str:
    path.write_text(text if text.startswith("records") else RECORDS + text)
    with pytest.raises(ConfigError) as refused:
        config.load(path, environ)
    return str(refused.value).replace(str(path), "FILE")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("window: {length: 7}", "window.length: wanted at least 8; got 7 from FILE"),
        ("window: {length: ten}", "window.length: wanted a whole number; got 'ten' from FILE"),
        ("window: {length: 8.5}", "window.length: wanted a whole number; got 8.5 from FILE"),
        ("window: {length: null}", "window.length: wanted a whole number; got nothing from FILE"),
        ("window: {length: yes}", "window.length: wanted a number; got true (from FILE)"),
        ("http: {port: 70000}", "http.port: wanted at most 65535; got 70000 from FILE"),
        ("log: {level: LOUD}", "log.level: wanted 'DEBUG', 'INFO', 'WARNING' or 'ERROR'; got 'LOUD' from FILE"),
        ("model: {holdout: 0.9}", "model.holdout: wanted less than 0.5; got 0.9 from FILE"),
        ("model: {holdout: much}", "model.holdout: wanted a number; got 'much' from FILE"),
        ("model: {learning_rate: .inf}", "model.learning_rate: wanted a finite number; got inf from FILE"),
        ("model: {directory: [a]}", "model.directory: wanted a path; got ['a'] from FILE"),
        ("alerting: {silent_after: 1}", "alerting.silent_after: wanted more than 1; got 1 from FILE"),
        ("kafka: {create_topics: maybe}", "kafka.create_topics: wanted true or false; got 'maybe' from FILE"),
        ("kafka: {group: ''}", "kafka.group: wanted at least 1 character(s); got '' from FILE"),
        (
            "kafka: {topic: 'a b'}",
            "kafka.topic: wanted a topic name: 1 to 249 of the characters A-Z a-z 0-9 . _ -; got 'a b' from FILE",
        ),
        (
            "kafka: {topic: 5}",
            "kafka.topic: wanted text; got 5 from FILE; in YAML, text that looks like something else needs quotes",
        ),
        ("kafka: []", "kafka: wanted settings below it, such as `bootstrap_servers: ...`; got a list from FILE"),
        ("kafka: secret", "kafka: wanted settings below it, such as `bootstrap_servers: ...`; got text from FILE"),
        (
            "records: {features: temperature}",
            "records.features: wanted a list of field names, such as [temperature, vibration]; got 'temperature' "
            "from FILE",
        ),
        (
            "records: {features: []}",
            "records.features: wanted a list of field names, such as [temperature, vibration]; got [] from FILE",
        ),
        (
            "records: {}",
            "records.features: wanted a list of field names, such as [temperature, vibration]; got nothing from FILE",
        ),
        (
            "records: {features: [a], stream_ttl: 1w}",
            "records.stream_ttl: wanted a duration such as 7d, 12h, 30m or 45s; got '1w' (from FILE)",
        ),
    ],
)
def test_an_error_names_key_wanted_got_and_source(path: Path, text: str, said: str) -> None:
    assert refusal(path, text) == said


def test_a_list_with_bad_entries_is_not_also_too_short(path: Path) -> None:
    lines = refusal(path, "records: {features: [1, 2]}").splitlines()

    assert [line.partition(":")[0] for line in lines] == ["records.features[0]", "records.features[1]"]
    assert "wanted text; got 1 from FILE" in lines[0]


def test_a_value_from_the_environment_is_traced_to_its_variable(path: Path) -> None:
    message = refusal(path, "window: {length: 64}", STREAMER_WINDOW__LENGTH="abc")

    assert message == "window.length: wanted a whole number; got 'abc' from STREAMER_WINDOW__LENGTH"


def test_a_long_value_is_cut(path: Path) -> None:
    assert len(refusal(path, f"http: {{port: {'x' * 10_000}}}")) < 200


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("kafka: {tpoic: x}", {}, "kafka.tpoic: no such setting; did you mean kafka.topic? (from FILE)"),
        ("kafak: {topic: x}", {}, "kafak: no such section; did you mean kafka? (from FILE)"),
        (
            "kafka: {zzz: x}",
            {},
            "kafka.zzz: no such setting; see the configuration reference in the README (from FILE)",
        ),
        (
            "",
            {"STREAMER_KAFKA__TPOIC": "x"},
            "kafka.tpoic: no such setting; did you mean kafka.topic? (from STREAMER_KAFKA__TPOIC)",
        ),
        (
            "",
            {"STREAMER_KAFAK__TOPIC": "x"},
            "kafak: no such section; did you mean kafka? (from STREAMER_KAFAK__TOPIC)",
        ),
        (
            "rules: {crossed_book: {bidd: x}}",
            {},
            "rules.crossed_book[bidd]: no such setting; did you mean rules.crossed_book.bid? (from FILE)",
        ),
        (
            "kafka: {Bootstrap-Servers: x}",
            {},
            "kafka.Bootstrap-Servers: no such setting; did you mean kafka.bootstrap_servers? (from FILE)",
        ),
        ("window: {epochs: 5}", {}, "window.epochs: no such setting; did you mean model.epochs? (from FILE)"),
        ("topic: readings", {}, "topic: no such section; did you mean kafka.topic or state.topic? (from FILE)"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_what_was_probably_meant(
    path: Path, text: str, environ: dict[str, str], said: str
) -> None:
    assert refusal(path, text, **environ) == said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rules: {power_of_ten: {field: hate}}", "rules.power_of_ten.field: wanted one of records.features ['heat', "),
        ("time: {bars: volume, bar_size: 5, bar_field: hate}", "time.bar_field: wanted one of ['heat', 'size']; "),
        ("records: {features: [heat, size], zero_is_missing: [hate]}", "zero_is_missing: wanted names among features"),
    ],
)
def test_a_feature_that_is_not_there_names_what_was_probably_meant(path: Path, text: str, words: str) -> None:
    message = refusal(path, text if text.startswith("records") else f"records: {{features: [heat, size]}}\n{text}")

    assert words in message
    assert "; did you mean 'heat'?" in message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "STREAMER_KAFKA_TOPIC",
            "kafka.topic: STREAMER_KAFKA_TOPIC is not read; two underscores follow the section: "
            "set STREAMER_KAFKA__TOPIC",
        ),
        (
            "STREAMER__KAFKA_TOPIC",
            "kafka.topic: STREAMER__KAFKA_TOPIC is not read; two underscores follow the "
            "section: set STREAMER_KAFKA__TOPIC",
        ),
        (
            "STREAMER_KAFKA_SASL_PASSWORD_FILE",
            "kafka.sasl_password_file: STREAMER_KAFKA_SASL_PASSWORD_FILE is not "
            "read; two underscores follow the section: set STREAMER_KAFKA__SASL_PASSWORD_FILE",
        ),
        (
            "STREAMER_SCHEMA_REGISTRY_URL",
            "schema_registry.url: STREAMER_SCHEMA_REGISTRY_URL is not read; two "
            "underscores follow the section: set STREAMER_SCHEMA_REGISTRY__URL",
        ),
    ],
)
def test_a_variable_with_one_underscore_is_refused_with_its_right_name_and_without_its_value(
    path: Path, given: str, said: str
) -> None:
    assert refusal(path, "window: {length: 64}", **{given: "hunter2"}) == said


@pytest.mark.parametrize(
    "environ",
    [
        {"STREAMER_TORCH": "cpu", "STREAMER_PORT": "9108", "STREAMER_TAG": "local"},  # of make and compose
        {"STREAMER_HTTP_PORT": "tcp://10.0.0.1:9108", "STREAMER_HTTP_SERVICE_HOST": "10.0.0.1"},  # of Kubernetes
        {"STREAMER_KAFKA_TOPIC": "other", "STREAMER_KAFKA__TOPIC": "readings"},  # the right one is there, too
    ],
)
def test_variables_of_others_are_left_alone(path: Path, environ: dict[str, str]) -> None:
    path.write_text(RECORDS)

    assert config.load(path, environ).kafka.topic == "readings"


JARGON = re.compile(
    r"\b(input|valid|string|integer|boolean|tuple|dict|dictionary|parse|instance|validation|class|pydantic|none|null)\b"
)
VALUES: tuple[Any, ...] = (
    None, True, "", "no such word", -1, 10**30, 0.5, -1e300, float("nan"), float("inf"), [], [1], ["x", None], {"x": 1},
    "x" * 300, "2024-01-01",
)  # fmt: skip


@pytest.mark.parametrize(
    ("section", "key"), [(s, k) for s, kind in Settings.model_fields.items() for k in kind.annotation.model_fields]  # type: ignore[union-attr]
)  # fmt: skip
def test_no_word_of_a_library_reaches_the_user(path: Path, section: str, key: str) -> None:
    for value in VALUES:
        data: dict[str, Any] = {"records": {"features": ["a"]}}
        data.setdefault(section, {})[key] = value
        path.write_text(yaml.safe_dump(data))
        try:
            config.load(path, {})
        except ConfigError as error:
            for line in str(error).splitlines():
                said = line.replace(str(path), "FILE").partition("; got ")[0].lower()
                assert said.startswith(section)
                assert not JARGON.search(said.partition("; '")[0]), line
