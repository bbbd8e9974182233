"""`streamer check`: everything the daemon relies on, without changing anything.

Each line begins with `ok`, `FAIL`, or `?` for what should be seen to but stops nothing. Not inside: what is asked
(`connectors.kafka.probe`, `runtime.state`, `offline.surroundings`).
"""

from __future__ import annotations

import time
from argparse import Namespace
from typing import TYPE_CHECKING

from streamer import config
from streamer.cli.exit_codes import EXIT_BROKER, EXIT_CONFIG, EXIT_OK
from streamer.cli.looking import check_topic
from streamer.cli.notifications import summary
from streamer.errors import ConfigError
from streamer.observability import logs

if TYPE_CHECKING:
    from streamer.offline.surroundings import Finding

_WORDS = {True: "ok  ", False: "FAIL", None: "?   "}


def check(options: Namespace) -> int:
    """Print what was found; the exit code of the first thing that is wrong."""
    from streamer.connectors.kafka.probe import Missing, probe
    from streamer.offline import surroundings

    settings = config.load(options.config)
    logs.configure(settings.log)
    print(f"ok    configuration {options.config}")
    if (notifying := settings.notifications.options()) is not None:
        print(f"ok    {summary(notifying)}")
    code = _check_bundle(settings)
    for finding in surroundings.secrets(settings):
        _tell(finding)
    if settings.http.concern:
        print(f"?     {settings.http.concern}")
    missing = Missing.CREATED_BY_RUN if settings.kafka.create_topics else Missing.FAIL
    report = probe(settings.kafka, missing=missing)
    for step in report.steps:
        print(f"{_WORDS[step.ok]}  {step.detail}")
    if not report.ok or not _check_state(settings) or not _check_sinks(settings):
        return EXIT_BROKER
    _check_incidents(settings)
    _check_unpacking(settings)
    found, newest_ms = check_topic(settings)
    _tell(surroundings.clock(time.time(), newest_ms))
    return found or code


def _tell(finding: Finding) -> None:
    print(f"{_WORDS[finding.ok]}  {finding.said}")


def _check_sinks(settings: config.Settings) -> bool:
    """Print whether sinks may read the alerts topic, and whether they can be reached; False if they may not read."""
    from streamer.connectors.alert_sinks import SinkUnreachable, open_sinks
    from streamer.connectors.kafka.probe import Missing, Needs, probe
    from streamer.runtime.sinks import group_of

    kafka, granted = settings.kafka, True
    for sink, _ in open_sinks(settings):
        needs = Needs(reads=(kafka.alerts_topic,), group=group_of(kafka, sink.name))
        report = probe(kafka, needs, missing=Missing.CREATED_BY_RUN)
        for step in report.steps:
            if step.ok is not True:
                print(f"{_WORDS[step.ok]}  sink {sink.name}: {step.detail}")
        granted = granted and report.ok
        try:
            print(f"ok    sink {sink.name}: {sink.prove()}")
        except SinkUnreachable as error:
            print(f"?     sink {sink.name}: {error}; alerts wait on {kafka.alerts_topic} meanwhile")
    return granted


def _check_incidents(settings: config.Settings) -> None:
    """Print whether the store of incidents can be kept; nothing else depends on it."""
    from streamer.connectors.incident_store import ActionsTopic, StoreEmpty, check_store, open_to_read
    from streamer.connectors.kafka.probe import Missing, Needs, probe
    from streamer.errors import BrokerError

    if settings.incidents.store is None:
        return
    needs = Needs(reads=(settings.kafka.alerts_topic,))
    for step in probe(settings.kafka, needs, missing=Missing.CREATED_BY_RUN).steps:
        if step.ok is not True:
            print(f"?     store of incidents: {step.detail}")
    actions = ActionsTopic(settings)
    try:
        if not actions.there():
            print(
                f"?     topic {actions.name}, for what people do about incidents, is made by `streamer run` if it may"
            )
        check_store(settings)
        open_to_read(settings).close()
        print("ok    the store of incidents can be read")
    except StoreEmpty:
        print("?     the store of incidents holds nothing yet; `streamer run` makes it")
    except (BrokerError, ConfigError) as error:
        print(f"?     store of incidents: {error}")
    finally:
        actions.close()


def _check_unpacking(settings: config.Settings) -> None:
    """Print what a compressed record may do to the client."""
    from streamer.connectors.kafka import AdminRefused, connect_topic_admin
    from streamer.errors import BrokerError
    from streamer.offline import surroundings

    if settings.kafka.client != "confluent":
        return
    admin = connect_topic_admin(settings.kafka)
    try:
        topic = admin.settings(settings.kafka.topic)
    except (AdminRefused, BrokerError):
        topic = {}  # as a topic that takes everything: DESCRIBE_CONFIGS is not granted, or the topic not there yet
    finally:
        admin.close()
    for finding in surroundings.unpacking(settings, topic):
        _tell(finding)


def _check_bundle(settings: config.Settings) -> int:
    """Print whether the current bundle can be used, and whether there is room for the state of its streams."""
    from models.errors import ModelError
    from models.store.registry import Registry
    from streamer.core.detectors import canary, fitted
    from streamer.core.pipeline import Pipeline
    from streamer.offline import surroundings

    try:
        detector, manifest = Registry(settings.model.directory).load()
        version = str(manifest["version"])
        detector = fitted(settings.pipeline_options(), detector, version)
        canary(detector)
        print(f"ok    bundle {version}, {len(detector.streams)} stream(s)")
    except (ModelError, ConfigError) as error:
        print(f"FAIL  bundle: {error}")
        return EXIT_CONFIG
    if settings.state.store == "local" and settings.state.directory is not None:
        size = Pipeline(settings.pipeline_options(), detector, version).keys.bytes_per_stream
        _tell(surroundings.disk(settings.state.directory, streams=len(detector.streams), bytes_per_stream=size))
    return EXIT_OK


def _check_state(settings: config.Settings) -> bool:
    """Print whether state can be kept where the settings say; False if it cannot."""
    from streamer.errors import StateError, StateNotMade, StateUnavailable
    from streamer.runtime.state.keeper import open_store

    store = open_store(settings)
    if store is None:
        print("?     state is kept nowhere: every start is cold (state.directory: none)")
        return True
    try:
        print(f"ok    {store.prove()}")
    except StateNotMade as error:
        print(f"?     {error}")
    except (StateError, StateUnavailable) as error:
        print(f"FAIL  {error}")
        return False
    finally:
        store.close()
    return True
