"""What a bundle's manifest says of the topic it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import ArtifactError


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
