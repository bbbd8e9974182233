"""What a state store must do, whichever is chosen: keep the snapshots of partitions and give them back.

Types, and what says that a store is the right one. Not inside: which snapshot is the one to go on from (`pointer`: the
group's commit names it), what is in a snapshot (`snapshots`), when one is written (`runtime.checkpoints`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamer.errors import StateUnavailable

MAX_NAME = 512  # characters; two of them fit into the note of a commit
MARKER = "streamer-state"  # a file or object at the root of a store that replicas share: this is where state is kept
READ_S = 60.0  # within about this time a store that does not answer is given up


class StateStore(Protocol):
    """Keeps snapshots of partitions under names that are never used twice.

    So whoever was put out of the group and does not know it yet overwrites nothing: its snapshots are never named by
    a commit, since the coordinator refuses it. `write` and `forget` are called from one thread, `read` from another.
    """

    def prepare(self) -> None:
        """See that the store can be used; called before the group is joined, and whenever it is joined again.

        Raises:
            StateError: It cannot; the message says what to do.
            StateUnavailable: It does not answer.
        """
        ...

    def prove(self) -> str:
        """Write, read and remove something small, as every checkpoint will; what was proved, in words.

        Raises:
            StateError: One of the three is refused.
            StateUnavailable: The store does not answer.
        """
        ...

    def write(self, partition: int, offset: int, body: Sequence[bytes]) -> str:
        """Keep a snapshot; whole and durable when this returns.

        Args:
            partition: Of the input topic.
            offset: Of the first record that the snapshot does not know.
            body: Its bytes, in parts.

        Returns:
            The name to read it by, at most `MAX_NAME` printable ASCII characters.

        Raises:
            StateError: It could not be kept; what was kept before is untouched.
        """
        ...

    def read(self, partition: int, name: str) -> bytes:
        """The snapshot of a name.

        Raises:
            StateError: It is gone or damaged.
            StateUnavailable: The store does not answer, or does not look as if state was ever kept there: nobody
                knows whether it is gone.
        """
        ...

    def names(self, partition: int) -> list[str]:
        """All snapshots of a partition that are there, whoever wrote them; the newest first.

        Raises:
            StateUnavailable: The store does not answer.
        """
        ...

    def forget(self, partition: int, kept: Sequence[str], gone: Sequence[str] = ()) -> None:
        """A commit that names `kept`, newest first, was acknowledged: what is older is not asked for again.

        Nor is what `gone` names: snapshots of an earlier topic of the same name, whatever their offset. Never raises:
        what could not be removed is removed another time.
        """
        ...

    def close(self) -> None: ...


def unmarked(root: str, question: str) -> StateUnavailable:
    """What a store says that has neither a snapshot the group's commit names nor the marker."""
    return StateUnavailable(
        f"{root}/{MARKER} is not there: {question} Where the state is lost for good, make an empty {MARKER} there, and "
        "partitions begin without it; see docs/state.md"
    )
