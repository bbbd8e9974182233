"""The `state` section: where windows and incidents are kept, and how often.

Not inside: the stores (`runtime.state`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from streamer.config.section import Positive, Section, TopicName


class StateConfig(Section):
    """Snapshots of windows and incidents, from which a restart resumes."""

    store: str = "local"  # where snapshots are kept; local: in files under directory
    topic: TopicName | None = None  # of snapshots, where they are kept in Kafka; none: "<group>.state"
    directory: Path | None = Path("state")  # directory of snapshots; none: every start is cold
    checkpoint_s: Positive = 5.0  # seconds between checkpoints
    replay_records: Annotated[int, Field(ge=0)] = 20_000  # records per partition, to warm up without a snapshot
