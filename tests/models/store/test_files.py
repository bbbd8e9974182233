"""Files are there whole or not at all; what a dead process left aside goes, what a living one is writing stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.store.files import UNTOUCHED_S, remove_stale, temporary_directory, write_atomically

LATER_S = time.time() + 2 * UNTOUCHED_S


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "state"

    for content in (b"one", b"two", b"three"):
        write_atomically(path, [content[:2], content[2:]])

    assert path.read_bytes() == b"three"
    assert names(tmp_path) == ["state"]


def test_a_file_may_have_the_longest_name_there_is(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)

    write_atomically(path, [b"whole"])

    assert path.read_bytes() == b"whole"


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"ne"
        assert path.read_bytes() == b"old"
        yield b"w"

    write_atomically(path, chunks())

    assert path.read_bytes() == b"new"


def test_permissions_are_the_umasks_unless_given(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "private", [b""])
        write_atomically(tmp_path / "public", [b""], mode=0o644)
    finally:
        os.umask(old)

    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "public").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"new"
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, chunks())

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_a_directory_is_renamed_into_place_or_removed(tmp_path: Path) -> None:
    with temporary_directory(tmp_path) as aside:
        (aside / "weights").write_bytes(b"1")
        aside.rename(tmp_path / "bundle")
    with temporary_directory(tmp_path) as aside:
        (aside / "weights").write_bytes(b"2")

    assert names(tmp_path) == ["bundle"]


WRITER = """
import sys, time
from pathlib import Path
from models.store.files import temporary_directory, write_atomically

def chunks():
    yield b"half"
    print("writing", flush=True)
    sys.stdin.read()

if sys.argv[2] == "file":
    write_atomically(Path(sys.argv[1]) / "state", chunks())
else:
    with temporary_directory(Path(sys.argv[1])) as aside:
        for chunk in chunks():
            (aside / "weights").write_bytes(chunk)
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path, kind: str) -> None:
    (tmp_path / "state.1").write_bytes(b"whole")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        (left,) = tmp_path.glob(".incoming-*")

        while_it_lives = remove_stale(tmp_path, now_s=LATER_S)
        writer.kill()
        writer.wait()
        just_after = remove_stale(tmp_path)
        later = remove_stale(tmp_path, now_s=LATER_S)

    assert (while_it_lives, just_after, later) == ([], [], [left])
    assert names(tmp_path) == ["state.1"]


def test_remains_of_every_kind_are_known_by_their_names_and_nothing_else_is_touched(tmp_path: Path) -> None:
    remains = [".incoming-x", ".current-1a", ".spool-b", "readings-0.incoming-12ab34cd"]
    others = ["current", "readings-0.snapshot", "readings-0.snapshot.1", ".hidden", "incoming-notes.txt"]
    for name in remains + others:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".incoming-link").symlink_to(tmp_path / "current")

    removed = remove_stale(tmp_path, now_s=LATER_S)

    assert sorted(path.name for path in removed) == sorted(remains)
    assert names(tmp_path) == sorted([*others, ".incoming-link"])
    assert remove_stale(tmp_path / "never made") == []


def test_a_directory_counts_as_touched_when_a_file_in_it_is(tmp_path: Path) -> None:
    aside = tmp_path / ".incoming-x"
    aside.mkdir()
    (aside / "weights").write_bytes(b"")
    os.utime(aside, (0, 0))

    assert remove_stale(tmp_path) == []
