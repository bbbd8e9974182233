"""`streamer retrain --from-kafka`: the topic's past as training data."""

from __future__ import annotations

import numpy as np
import pytest

from models.store.registry import Registry
from streamer.cli import main
from streamer.connectors import files as datafiles
from streamer.connectors.kafka.topic_reader import read_topic
from streamer.errors import DataError
from tests.brokers import produce
from tests.e2e.conftest import NewSite, World


def test_the_topics_past_is_what_was_sent(world: World, new_site: NewSite) -> None:
    site = new_site(partitions=2)
    site.send(world.live)
    produce(site.broker, site.settings.kafka.topic, [{"value": b"no reading"}])

    data = datafiles.join(read_topic(site.settings, None))

    sent, found = world.live.by_stream(), data.by_stream()
    assert found.keys() == sent.keys()
    for name, (times, values) in sent.items():
        np.testing.assert_array_equal(found[name][0], times)
        np.testing.assert_allclose(found[name][1], values, rtol=1e-6)


def test_retrain_from_kafka_makes_a_bundle_of_its_streams(world: World, new_site: NewSite) -> None:
    site = new_site(own_bundles=True)
    site.send(world.live)
    before = set(Registry(site.settings.model.directory).versions())

    code = main(["retrain", "--config", str(site.file), "--from-kafka", "--since", "1h"])

    registry = Registry(site.settings.model.directory)
    assert code == 0
    assert registry.current() in set(registry.versions()) - before
    assert registry.manifest(registry.current() or "")["streams"] == len(world.live.names)


def test_a_topic_without_readings_says_so(new_site: NewSite) -> None:
    site = new_site()
    produce(site.broker, site.settings.kafka.topic, [{"value": b"no reading"}])

    with pytest.raises(DataError, match="holds no readings"):
        list(read_topic(site.settings, None))
