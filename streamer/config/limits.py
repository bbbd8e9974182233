"""The `limits` section: how much memory the process may take, and how it is shared out.

The shares are bounds on what comes from outside and on what waits to go out. What streams themselves need grows
with their number and is not in here (`docs/sizing.md`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamer.config.section import Section


class LimitsConfig(Section):
    """Memory."""

    memory_mb: Annotated[int, Field(ge=512, le=1_048_576)] = 1024  # of the container; bounds what is read and sent

    @property
    def batch_bytes(self) -> int:
        """What one compressed batch may unpack to; a larger one is not read."""
        return self.memory_mb * 2**20 // 32

    @property
    def poll_bytes(self) -> int:
        """Records of one poll; the last of them may go beyond."""
        return self.memory_mb * 2**20 // 64

    @property
    def fetch_bytes(self) -> int:
        """What one answer of the broker may hold, still compressed."""
        return self.memory_mb * 2**20 // 64

    @property
    def answer_bytes(self) -> int:
        """The largest answer of the broker that librdkafka takes, and what it unpacks one zstd batch to."""
        return max(self.batch_bytes, self.fetch_bytes + 2**20)

    @property
    def outbox_bytes(self) -> int:
        """Messages that wait for their acknowledgement, with all that the client keeps of them."""
        return self.memory_mb * 2**20 // 8
