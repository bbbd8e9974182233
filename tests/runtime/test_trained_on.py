"""A bundle's word about the topic it was trained on is taken only if it is one."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import ArtifactError
from streamer.runtime.trained_on import trained_up_to


def test_offsets_of_each_partition_are_those_of_the_topic_asked_for() -> None:
    manifest = {"trained_on": {"topic": "readings", "partitions": {"0": 1200, "11": 0}}}

    assert trained_up_to(manifest, "readings") == {0: 1200, 11: 0}
    assert trained_up_to(manifest, "other") == {}


@pytest.mark.parametrize("manifest", [{}, {"trained_on": None}])
def test_a_bundle_trained_on_files_says_nothing(manifest: dict[str, Any]) -> None:
    assert trained_up_to(manifest, "readings") == {}


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"topic": "readings"},
        {"topic": "readings", "partitions": [1]},
        {"topic": "readings", "partitions": {"first": 1}},
        {"topic": "readings", "partitions": {"0": "1"}},
        {"topic": "readings", "partitions": {"0": True}},
        {"topic": "readings", "partitions": {"0": -1}},
    ],
)
def test_an_entry_that_training_did_not_write_is_refused(entry: object) -> None:
    with pytest.raises(ArtifactError, match="trained_on: wanted"):
        trained_up_to({"trained_on": entry}, "readings")
