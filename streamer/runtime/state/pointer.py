"""The note that a commit carries: which snapshot belongs to the offset, and which bundle scored what came after it.

The group's commit is the one pointer to the state. Offset and note are written together or not at all, a member that
was put out of the group cannot write them, and whoever moves the group by hand, or makes the topic anew, leaves none:
so state is only ever applied to the records it belongs to. Not inside: keeping snapshots (`interface`), what the
bundle is named for (`runtime.one_bundle`).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamer.runtime.state.interface import MAX_NAME

MAX_BUNDLE = 100  # characters of a bundle's version
MAX_NOTE_BYTES = 4096  # what a broker takes by default (offset.metadata.max.bytes)


class _Note(msgspec.Struct, frozen=True, omit_defaults=True):
    state: tuple[str, ...] = ()
    topic: str | None = None
    bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Pointer:
    """What a commit says beside the offset."""

    states: tuple[str, ...] = ()  # names of snapshots, newest first
    topic_id: str | None = None  # of the topic the offset belongs to, where the broker tells
    bundle: str | None = None  # that alone has scored what was told behind the offset; None: nothing was, or not known

    def note(self) -> str:
        return msgspec.json.encode(_Note(self.states, self.topic_id, self.bundle)).decode()


def read_note(note: str) -> Pointer:
    """What a note says; nothing if it is not ours or makes no sense: it may come from any client of the group."""
    try:
        found = msgspec.json.decode(note[:MAX_NOTE_BYTES], type=_Note)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Pointer()
    states = tuple(name for name in found.state[:2] if 0 < len(name) <= MAX_NAME)
    bundle = found.bundle if found.bundle and len(found.bundle) <= MAX_BUNDLE else None
    return Pointer(states, found.topic, bundle)
