"""Fixtures that more than one test folder uses: brokers, a tiny detector, logging as it was."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator

import hypothesis
import pytest

from models.detector import Detector
from tests import tiny
from tests.brokers import Broker, SecureKafka, choose_broker, kafka_home
from tests.databases import PostgresServer, programs

# The same examples on every machine; HYPOTHESIS_PROFILE=search looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=60)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The best broker this machine has; see `tests/brokers.py`."""
    chosen = choose_broker(tmp_path_factory.mktemp("kafka"))
    yield chosen
    chosen.stop()


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """A real Kafka that wants a login and grants by ACL; only where KAFKA_HOME is set."""
    home = kafka_home()
    missing = "KAFKA_HOME is not set" if home is None else None
    if missing is None and shutil.which("openssl") is None:
        missing = "openssl is not on PATH"
    if home is None or missing is not None:
        reason = f"a Kafka with login and ACLs needs KAFKA_HOME, Java and openssl: {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    node = SecureKafka(
        home, tmp_path_factory.mktemp("secure-kafka"), users=("full", "partial", "reader", "nobody")
    ).start()
    yield node
    node.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A real PostgreSQL; only where it and the extra are installed."""
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: initdb is neither on PATH nor in /usr/lib/postgresql")
    server = PostgresServer(found)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def keep_logging() -> Iterator[None]:
    """Commands set up logging for the process; other tests must not notice."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def tiny_detector() -> Detector:
    """Two streams of two features, windows of 16; see `tests/tiny.py`. Never changed by a test."""
    return tiny.fit()
