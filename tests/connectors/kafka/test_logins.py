"""How streamer proves to Kafka who it is: client certificates, tokens, passwords that change."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ACLOperation, ResourceType
from pydantic import ValidationError

from streamer import config as configuration
from streamer.config import KafkaConfig
from streamer.config.secrets import SecretFile
from streamer.connectors.kafka import connect_consumer, connect_producer, connect_range_reader
from streamer.connectors.kafka.probe import ProbeReport, probe
from streamer.connectors.kafka.tokens import NoToken, Token, Tokens, tokens_of
from streamer.errors import BrokerError, ConfigError
from tests.brokers import KafkaNode, SecureKafka, config_for, kafka_home
from tests.certificates import Authority
from tests.secure_brokers import IdentityProvider, MutualTlsKafka, TokenKafka, identity_provider, unsigned_token

CLIENTS = pytest.mark.parametrize("client", ["kafka-python", "confluent"])


def started(kind: Callable[[Path, Path], KafkaNode], directory: Path) -> Iterator[Any]:
    home = kafka_home()
    if home is None:
        if os.environ.get("CI") == "true":
            pytest.fail("KAFKA_HOME is not set")
        pytest.skip("a Kafka that asks for certificates or tokens needs KAFKA_HOME: it is not set")
    node = kind(home, directory).start()
    yield node
    node.stop()


@pytest.fixture(scope="module")
def tls_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MutualTlsKafka]:
    yield from started(MutualTlsKafka, tmp_path_factory.mktemp("mtls"))


@pytest.fixture(scope="module")
def token_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenKafka]:
    yield from started(TokenKafka, tmp_path_factory.mktemp("tokens"))


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider() as made:
        yield made


def with_topics(node: KafkaNode, **settings: Any) -> KafkaConfig:
    made = config_for(node, probe_timeout_s=60.0, **settings)
    for name in (made.topic, made.alerts_topic, made.dlq_topic):
        node.create_topic(name)
    return made


def round_trip(config: KafkaConfig) -> None:
    """Send, join the group, read, commit; read without a group, too."""
    producer = connect_producer(config)
    producer.send(config.topic, key=b"k", value=b"v")
    producer.flush(20)
    producer.close()
    consumer = connect_consumer(
        config,
        on_assigned=lambda partitions: [consumer.seek(one, 0) for one in partitions],  # type: ignore
        on_revoked=lambda _: None,
    )
    try:
        polled: list[Any] = []
        for _ in range(100):
            polled = polled or consumer.poll(0.5)
        assert polled[0].values == [b"v"]
    finally:
        consumer.close()
    reader = connect_range_reader(config)
    try:
        assert reader.bounds() == {0: (0, 1)}
    finally:
        reader.close()


def reason(report: ProbeReport) -> str:
    assert report.reason is not None
    return report.reason


# -------------------------------------------------------------------------------------------------------- certificates


@CLIENTS
def test_a_client_certificate_opens_a_broker_that_wants_one(tls_kafka: MutualTlsKafka, client: str) -> None:
    config = with_topics(tls_kafka, client=client, **tls_kafka.security())

    assert probe(config).reason is None
    round_trip(config)


def test_without_a_certificate_or_with_a_strangers_the_probe_says_what_to_look_at(
    tls_kafka: MutualTlsKafka, tmp_path: Path
) -> None:
    security = tls_kafka.security()
    certfile, keyfile = Authority(tmp_path).issue("stranger")
    bare = config_for(tls_kafka, **security | {"ssl_certfile": None, "ssl_keyfile": None})
    strange = config_for(tls_kafka, **security | {"ssl_certfile": certfile, "ssl_keyfile": keyfile})

    assert "kafka.ssl_certfile" in reason(probe(bare))
    assert "kafka.ssl_certfile" in reason(probe(strange))


# -------------------------------------------------------------------------------------------------------------- tokens


def by_token(provider: IdentityProvider, secret: str = "s3cret") -> dict[str, Any]:
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_username": "streamer",
        "sasl_password": secret,
        "oauth_token_url": provider.url,
    }


@CLIENTS
def test_a_token_of_an_identity_provider_opens_the_broker(
    token_kafka: TokenKafka, provider: IdentityProvider, client: str
) -> None:
    provider.secrets["streamer"] = "s3cret"
    config = with_topics(token_kafka, client=client, **by_token(provider), oauth_scope="kafka")

    assert probe(config).reason is None
    round_trip(config)
    assert provider.asked[0] == {"grant_type": ["client_credentials"], "scope": ["kafka"]}


@CLIENTS
def test_a_token_in_a_file_opens_the_broker(token_kafka: TokenKafka, tmp_path: Path, client: str) -> None:
    path = tmp_path / "token"
    path.write_text(unsigned_token("streamer") + "\n")
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER", "oauth_token_file": path}

    config = with_topics(token_kafka, client=client, **login)

    assert probe(config).reason is None
    round_trip(config)


def test_a_token_that_has_ended_is_refused_and_said_to_be(token_kafka: TokenKafka, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(unsigned_token("streamer", life_s=-1))
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER", "oauth_token_file": path}

    assert reason(probe(config_for(token_kafka, **login))).startswith("authentication failed for this client")


def test_a_provider_that_gives_no_token_is_named_and_the_secret_is_not(
    token_kafka: TokenKafka, provider: IdentityProvider
) -> None:
    said = reason(probe(config_for(token_kafka, **by_token(provider, "wr0ng"))))

    assert said.startswith(f"no token from {provider.url}: HTTP 401; check kafka.sasl_username")
    assert "wr0ng" not in said


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"no json"),
        (200, b"[1]"),
        (200, b'{"access_token": 5}'),
        (200, b'{"access_token": "a\\nb"}'),
        (200, b'{"access_token": "' + b"x" * 100_000 + b'"}'),
        (500, b""),
        (302, b"http://127.0.0.1:1/elsewhere"),
    ],
    ids=["text", "array", "number", "newline", "long", "error", "redirect"],
)
def test_whatever_else_a_provider_answers_is_no_token(provider: IdentityProvider, answer: tuple[int, bytes]) -> None:
    provider.answer = answer

    with pytest.raises(NoToken, match="no token from"):
        tokens_of(KafkaConfig(**by_token(provider)))()


def test_a_provider_that_is_away_is_a_matter_of_the_broker() -> None:
    provider = IdentityProvider()
    provider.url = "http://127.0.0.1:1/token"
    config = KafkaConfig(**by_token(provider))

    with pytest.raises(BrokerError, match=r"no token from http://127.0.0.1:1/token: .*refused"):
        tokens_of(config)()


def test_a_token_is_used_again_and_renewed_before_it_ends() -> None:
    now_s, given = [1000.0], []

    def get() -> Token:
        if now_s[0] > 1290:
            raise NoToken("away")
        given.append(now_s[0])
        return Token(f"t{len(given)}", now_s[0] + 100)

    tokens = Tokens(get, clock=lambda: now_s[0])
    found = []
    for now_s[0] in (1000, 1079, 1080, 1159, 1290, 1389):
        found.append(tokens().text)

    assert found == ["t1", "t1", "t2", "t2", "t3", "t3"]  # also where the provider is away for a while
    now_s[0] = 1390
    with pytest.raises(NoToken):
        tokens()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sasl_username": "a", "sasl_password": "b"}, "needs oauth_token_url"),
        ({"oauth_token_url": "https://a/b"}, "needs sasl_username and sasl_password"),
        (
            {"sasl_username": "a", "sasl_password": "b", "oauth_token_url": "http://id.example.com/t"},
            "is not on loopback and not encrypted",
        ),
        (
            {"sasl_username": "a", "sasl_password": "b", "oauth_token_url": "https://u:p@id.example.com/t"},
            "a login does not belong in an address",
        ),
        ({"sasl_mechanism": "AWS_MSK_IAM"}, "needs aws_region"),
    ],
)
def test_settings_of_tokens_that_lack_something(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KafkaConfig(**{"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"} | settings)


def test_aws_needs_a_package_and_says_which() -> None:
    config = KafkaConfig(security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM", aws_region="eu-central-1")
    try:
        import aws_msk_iam_sasl_signer  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install aws-msk-iam-sasl-signer-python"):
            tokens_of(config)
    else:
        pytest.skip("aws-msk-iam-sasl-signer-python is installed")


# ----------------------------------------------------------------------------------------------------- rotated secrets


def loaded(tmp_path: Path, path: Path, **settings: Any) -> KafkaConfig:
    """Settings as the daemon reads them, the password from a file."""
    variables = {f"STREAMER_KAFKA__{key}".upper(): str(value) for key, value in settings.items()}
    variables["STREAMER_KAFKA__SASL_PASSWORD_FILE"] = str(path)
    kafka, _ = configuration.load_connections(None, variables)
    return kafka


@CLIENTS
def test_a_rotated_password_opens_the_next_connection_without_a_restart(
    secure_kafka: SecureKafka, tmp_path: Path, client: str
) -> None:
    path = tmp_path / "password"
    user = "nobody"
    security = secure_kafka.security(user) | {"sasl_password": ""}
    path.write_text(secure_kafka.passwords[user])
    made = config_for(secure_kafka, client=client, **secure_kafka.security(user))
    names = {key: getattr(made, key) for key in ("bootstrap_servers", "topic", "group", "client")}
    config = loaded(tmp_path, path, **{k: v for k, v in security.items() if v} | names)
    secure_kafka.create_topic(config.topic)
    secure_kafka.grant(user, {(ResourceType.TOPIC, config.topic): [ACLOperation.READ]})

    connect_range_reader(config).close()
    new = secure_kafka.passwords[user] + "2"
    rotate(secure_kafka, tmp_path, user, new)
    refused = reason(probe(config))
    path.write_text(new + "\n")
    secure_kafka.passwords[user] = new
    reader = connect_range_reader(config)

    assert refused.startswith(f"authentication failed for user '{user}'")
    assert reader.bounds() == {0: (0, 0)}
    reader.close()


def rotate(node: SecureKafka, directory: Path, user: str, password: str) -> None:
    settings = directory / "admin.properties"
    settings.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={node.cafile}\n"
        "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="broker" password="{node.passwords["broker"]}";\n'
    )
    home = kafka_home()
    assert home is not None
    command: list[str | Path] = [home / "bin" / "kafka-configs.sh", "--bootstrap-server", node.bootstrap_servers]
    command += ["--command-config", settings, "--alter", "--entity-type", "users", "--entity-name", user]
    command += ["--add-config", f"SCRAM-SHA-512=[password={password}]"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"KAFKA_HEAP_OPTS": "-Xmx128m"})


def test_a_secret_file_that_is_gone_or_empty_leaves_the_secret_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "password"
    path.write_text("one\n")
    secret = SecretFile(path)

    path.write_text("")
    between = secret.get_secret_value()
    path.unlink()
    gone = [secret.get_secret_value() for _ in range(2)]
    path.write_text("two")

    assert (between, gone, secret.get_secret_value()) == ("one", ["one"] * 2, "two")
    assert caplog.text.count("cannot be read any more") == 1
    assert "one" not in caplog.text
    assert "two" not in repr(secret) + str(secret)


def test_settings_that_end_in_file_name_a_file_themselves(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("t")

    kafka, registry = configuration.load_connections(
        None, {"STREAMER_KAFKA__OAUTH_TOKEN_FILE": str(path), "STREAMER_SCHEMA_REGISTRY__CA_FILE": str(path)}
    )

    assert (kafka.oauth_token_file, registry.ca_file) == (path, path)


def test_a_living_client_of_librdkafka_is_given_a_new_password(tmp_path: Path) -> None:
    options = pytest.importorskip("streamer.connectors.kafka.confluent.options", reason="needs streamer[confluent]")
    now_s, given = [0.0], list[tuple[str, str]]()
    path = tmp_path / "password"
    path.write_text("one")
    security = {"security_protocol": "SASL_SSL", "sasl_username": "a", "bootstrap_servers": "127.0.0.1:1"}
    login = options.Login(loaded(tmp_path, path, **security), clock=lambda: now_s[0])

    class Client:
        def set_sasl_credentials(self, user: str, password: str) -> None:
            given.append((user, password))

    for now_s[0], text in ((1, "one"), (1.5, "two"), (2, "two"), (3, "two"), (4, "three")):
        path.write_text(text)
        login.renew(Client())

    assert given == [("a", "two"), ("a", "three")]


def test_a_producer_of_librdkafka_that_lost_its_connection_logs_in_with_the_new_password(
    secure_kafka: SecureKafka, tmp_path: Path
) -> None:
    path, user = tmp_path / "password", "reader"
    path.write_text(secure_kafka.passwords[user])
    made = config_for(secure_kafka, client="confluent", **secure_kafka.security(user))
    names = {key: getattr(made, key) for key in ("bootstrap_servers", "topic", "group", "client")}
    security = {key: value for key, value in secure_kafka.security(user).items() if key != "sasl_password"}
    config = loaded(tmp_path, path, **security, **names)
    secure_kafka.create_topic(config.topic)
    secure_kafka.grant(user, {(ResourceType.TOPIC, config.topic): [ACLOperation.WRITE]})
    producer = connect_producer(config)
    try:
        producer.send(config.topic, key=None, value=b"before")
        producer.flush(60)
        new = secure_kafka.passwords[user] + "2"
        rotate(secure_kafka, tmp_path, user, new)
        secure_kafka.passwords[user] = new
        secure_kafka.down()  # so that the connection made with the old one is gone
        secure_kafka.up()
        path.write_text(new)
        producer.send(config.topic, key=None, value=b"after")
        producer.flush(60)

        assert producer.pending == 0
    finally:
        producer.close()
