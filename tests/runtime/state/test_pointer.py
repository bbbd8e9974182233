"""The note of a commit names snapshots; a note that is not ours names none."""

from __future__ import annotations

import pytest

from streamer.runtime.state.interface import MAX_NAME
from streamer.runtime.state.pointer import MAX_BUNDLE, MAX_NOTE_BYTES, Pointer, read_note


@pytest.mark.parametrize(
    "pointer", [Pointer(), Pointer(("b", "a"), "t1"), Pointer(("x" * MAX_NAME,) * 2, "y" * 22, "z" * MAX_BUNDLE)]
)
def test_a_note_says_what_was_written_and_fits(pointer: Pointer) -> None:
    assert read_note(pointer.note()) == pointer
    assert len(pointer.note().encode()) <= MAX_NOTE_BYTES


@pytest.mark.parametrize("note", ["", "checkpoint 17", "[]", '{"state": 3}', '{"state": [""]}', "{" * 5000, "\x00"])
def test_notes_of_others_name_nothing(note: str) -> None:
    assert read_note(note) == Pointer()


def test_a_note_of_an_earlier_version_names_no_bundle() -> None:
    assert read_note('{"state":["b","a"],"topic":"t1"}') == Pointer(("b", "a"), "t1", None)
