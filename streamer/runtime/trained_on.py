"""What a bundle was trained on of the topic, and where a group without offsets begins to publish therefore."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from models.errors import ArtifactError
from models.store.registry import Registry

log = logging.getLogger(__name__)


def trained_up_to(manifest: Mapping[str, Any], topic: str) -> dict[int, int]:
    """The offset after the newest record trained on, of each partition; empty if it was not `topic`.

    Raises:
        ArtifactError: The entry is not as training writes it.

    >>> trained_up_to({"trained_on": {"topic": "readings", "partitions": {"0": 1200}}}, "readings")
    {0: 1200}
    """
    about = manifest.get("trained_on")  # bundles trained on files have none, nor have older ones
    if about is None:
        return {}
    try:
        if about["topic"] != topic:
            return {}
        offsets = {int(partition): offset for partition, offset in about["partitions"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ArtifactError(
            f"trained_on: wanted a topic and offsets of its partitions; got {str(about)[:200]}"
        ) from None
    if not all(type(offset) is int and offset >= 0 for offset in offsets.values()):
        raise ArtifactError(f"trained_on: wanted offsets; got {str(about)[:200]}")
    return offsets


def after_training(models: Registry, version: str, topic: str, partition: int, first: int, end: int) -> int:
    """Where a group without offsets begins to publish: behind what its bundle was trained on, else at the first.

    Args:
        models: Where the bundle is.
        version: Of the bundle in use.
        topic: Input topic.
        partition: Of it.
        first: First offset still held.
        end: Offset after the newest record.
    """
    try:
        trained = trained_up_to(models.manifest(version), topic).get(partition)
    except ArtifactError as error:
        log.warning("bundle %s does not say what it was trained on: %s", version, error)
        trained = None
    if trained is None:
        return first
    if not first <= trained <= end:
        log.warning(
            "partition %d: bundle %s was trained on records before %d, outside %d..%d: the topic was recreated "
            "or its records have expired; publishing from the first record held",
            partition, version, trained, first, end,
        )  # fmt: skip
        return first
    log.info(
        "partition %d: the group has no offset, and bundle %s was trained on the records before %d: they raise no "
        "alerts, publishing begins there",
        partition, version, trained,
    )  # fmt: skip
    return trained
