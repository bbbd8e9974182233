"""The section `sinks`: what may be configured, and that no secret stands in the file or is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer import config
from streamer.core.routing import Route
from streamer.errors import ConfigError


def load(path: Path, sinks: str, more: str = "", **environ: str) -> config.Settings:
    file = path / "streamer.yaml"
    file.write_text(f"records: {{features: [temperature]}}\nsinks: {sinks}\n{more}\n")
    return config.load(file, environ)


def test_without_the_section_there_are_no_sinks(tmp_path: Path) -> None:
    assert list(load(tmp_path, "{}").sinks.all()) == []


def test_every_sink_has_a_name_and_conditions_of_its_own(tmp_path: Path) -> None:
    sinks = load(
        tmp_path,
        """
  alertmanager:
    ops: {url: "http://127.0.0.1:9093", resend_s: 30, ca_file: ca.pem}
    night: {url: "https://night.example:9093", when: {stream: pump-*, severity: critical, kind: [anomaly, silence]}}
  log: {console: {}}
  lookback: 2d""",
    ).sinks

    assert [name for name, _ in sinks.all()] == ["ops", "night", "console"]
    assert sinks.alertmanager["ops"].ca_file == tmp_path / "ca.pem"
    assert sinks.alertmanager["night"].when.route() == Route(("pump-*",), ("anomaly", "silence"), "critical")
    assert sinks.lookback == 172_800


def test_secrets_come_from_files_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    settings = load(
        tmp_path,
        "{alertmanager: {ops: {url: 'http://127.0.0.1:9093'}, other: {url: 'http://127.0.0.1:9094', username: me}}}",
        STREAMER_SINKS__ALERTMANAGER__OPS__TOKEN_FILE=str(tmp_path / "token"),
        STREAMER_SINKS__ALERTMANAGER__OTHER__PASSWORD="none",
    )
    (tmp_path / "token").write_text("second")
    token, password = settings.sinks.alertmanager["ops"].token, settings.sinks.alertmanager["other"].password

    assert token is not None
    assert token.get_secret_value() == "second"
    assert password is not None
    assert password.get_secret_value() == "none"
    assert "second" not in repr(settings)


def test_the_address_of_a_webhook_is_a_secret(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://hooks.example/T0/first\n")
    settings = load(
        tmp_path,
        "{webhook: {chat: {preset: slack, give_up_after: 2h}, pager: {preset: pagerduty}, own: {template_file: o.j2}}}",
        STREAMER_SINKS__WEBHOOK__CHAT__URL_FILE=str(tmp_path / "url"),
        STREAMER_SINKS__WEBHOOK__PAGER__KEY="R0UT1NG",
        STREAMER_SINKS__WEBHOOK__OWN__URL="https://hooks.example/own",
    )
    hooks = settings.sinks.webhook
    (tmp_path / "url").write_text("https://hooks.example/T0/second\n")

    assert hooks["chat"].address() == "https://hooks.example/T0/second"
    assert hooks["chat"].give_up_after == 7200
    assert hooks["pager"].address() == "https://events.pagerduty.com/v2/enqueue"
    assert hooks["own"].template_file == tmp_path / "o.j2"
    assert "hooks.example" not in repr(settings)
    assert "R0UT1NG" not in repr(settings)


SLACK = "{webhook: {chat: {preset: slack}}}"


@pytest.mark.parametrize(
    ("sinks", "environ", "said"),
    [
        (SLACK, {"CHAT__URL": "hunter2"}, "url: wanted an address"),
        (SLACK, {"CHAT__URL": "http://10.0.0.1/hunter2"}, "the address of chat is not on loopback"),
        (SLACK, {"CHAT__URL_FILE": "/no/hunter2"}, "sinks.webhook.chat.url: wanted the name"),
        ("{webhook: {chat: {}}}", {"CHAT__URL": "http://127.0.0.1/hunter2"}, "wanted preset or template_file"),
        ("{webhook: {chat: {preset: slck}}}", {"CHAT__URL": "http://127.0.0.1/hunter2"}, "'slack', 'teams' or"),
        ("{webhook: {chat: {preset: slack, url: 'http://127.0.0.1/hunter2'}}}", {}, "secrets do not belong in"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_without_a_word_of_its_address(
    tmp_path: Path, sinks: str, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        load(tmp_path, sinks, **{f"STREAMER_SINKS__WEBHOOK__{name}": value for name, value in environ.items()})

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("key", ["token", "password"])
def test_a_secret_in_the_file_is_refused_with_the_way_out(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError) as said:
        load(tmp_path, f"{{alertmanager: {{ops: {{url: 'http://127.0.0.1:1', {key}: hunter2}}}}}}")

    assert f"sinks.alertmanager.ops.{key}: secrets do not belong in" in str(said.value)
    assert f"STREAMER_SINKS__ALERTMANAGER__OPS__{key.upper()}_FILE" in str(said.value)
    assert "hunter2" not in str(said.value)


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        ("{alertmanager: {ops: {}}}", "url: wanted an address such as http://alertmanager:9093"),
        ("{alertmanager: {ops: {url: alertmanager:9093}}}", "url: wanted an address"),
        ("{alertmanager: {ops: {url: 'http://a b'}}}", "url: wanted an address"),
        ("{alertmanager: {ops: {url: 'http://me:hunter2@127.0.0.1'}}}", "a login does not belong in the address"),
        ("{alertmanager: {ops: {url: 'http://127.0.0.1', username: me}}}", "username and password go together"),
        ("{alertmanager: {ops: {url: 'http://127.0.0.1', labels: {severity: page}}}}", "labels: wanted names"),
        ("{alertmanager: {ops: {url: 'http://127.0.0.1', when: {event: open}}}}", "an Alertmanager needs all events"),
        ("{alertmanager: {ops: {url: 'http://10.0.0.1:9093'}}}", "the address of ops is not on loopback"),
        ("{log: {Console: {}}}", "wanted at most 40 lower-case letters"),
        ("{log: {a__b: {}}}", "wanted at most 40 lower-case letters"),
        ("{log: {ops: {}}, alertmanager: {ops: {url: 'http://127.0.0.1'}}}", "got ops twice"),
        ("{log: {ops: {when: {kind: anomly}}}}", "wanted anomaly, silence, .* got 'anomly'"),
        ("{log: {ops: {when: {severity: fatal}}}}", "wanted 'info', 'warning' or 'critical'"),
        ("{log: {ops: {wen: {}}}}", "no such setting"),
        ("{log: here}", "wanted settings below it"),
        ("{runbook_url: docs/runbook.md}", "runbook_url: wanted an address"),
        (f"{{log: {{{', '.join(f'a{i}: {{}}' for i in range(21))}}}}}", "wanted at most 20 sinks"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, sinks: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        load(tmp_path, sinks)

    assert "hunter2" not in str(error.value)


def test_an_address_on_a_network_that_is_trusted_need_not_be_encrypted(tmp_path: Path) -> None:
    sinks = "{alertmanager: {ops: {url: 'http://alertmanager:9093'}}}"

    assert load(tmp_path, sinks, "kafka: {allow_insecure: true}").sinks.in_the_clear() == ["ops"]
