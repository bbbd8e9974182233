"""Snapshots as files survive crashes and full disks, and nobody overwrites another's."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from streamer.errors import StateError, StateUnavailable
from streamer.runtime.state.local import LocalStore


class Crash(BaseException):
    """The process dies here."""


def store(directory: Path, *, topic: str = "readings", group: str = "g") -> LocalStore:
    return LocalStore(directory, topic, group)


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_what_was_written_is_read_by_its_name(tmp_path: Path) -> None:
    some = store(tmp_path)
    names = [some.write(0, 7, [b"one"]), some.write(0, 7, [b"t", b"wo"]), some.write(1, 7, [b"three"])]

    assert [store(tmp_path).read(p, name) for p, name in zip((0, 0, 1), names, strict=True)] == [
        b"one",
        b"two",
        b"three",
    ]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    store(tmp_path / "state").write(0, 1, [b"secret"])

    assert {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files(tmp_path)} == {0o700}


def test_what_is_older_than_the_one_before_is_removed(tmp_path: Path) -> None:
    some = store(tmp_path)
    names = [some.write(0, offset, [b"%d" % offset]) for offset in (10, 20, 30, 40)]
    other = store(tmp_path, group="another").write(0, 5, [b"other group"])

    some.forget(0, (names[2], names[1]))

    assert {path.stem for path in files(tmp_path)} == {*names[1:], other}


def test_a_member_put_out_of_the_group_removes_nothing_of_its_successor(tmp_path: Path) -> None:
    evicted, successor = store(tmp_path), store(tmp_path)
    first, second = evicted.write(0, 10, [b"1"]), evicted.write(0, 20, [b"2"])
    newer = [successor.write(0, 20, [b"3"]), successor.write(0, 30, [b"4"])]

    evicted.forget(0, (second, first))

    assert [successor.read(0, name) for name in newer] == [b"3", b"4"]


def test_all_snapshots_of_a_partition_are_found_the_newest_first_and_removed_if_told_so(tmp_path: Path) -> None:
    some = store(tmp_path)
    names = [some.write(0, offset, [b""]) for offset in (900, 10, 20)]  # 900 in an earlier topic of the same name
    some.write(1, 5, [b"another partition"])
    for age, name in enumerate(reversed(names)):
        os.utime(next(tmp_path.rglob(f"{name}.snapshot")), ns=(0, 10**9 * (100 - age)))

    assert some.names(0) == names[::-1]
    assert some.names(7) == []
    some.forget(0, names[:0:-1], [names[0]])
    assert some.names(0) == names[:0:-1]


def test_what_another_store_wrote_is_not_looked_for_among_the_files(tmp_path: Path) -> None:
    (tmp_path / "secret.snapshot").write_bytes(b"secret")

    for name in ("../../secret", "/etc/passwd", "3:17:18"):
        with pytest.raises(StateError, match="another store wrote it"):
            store(tmp_path).read(0, name)


def test_a_snapshot_of_a_replica_with_a_directory_of_its_own_is_not_there(tmp_path: Path) -> None:
    name = store(tmp_path / "mine").write(0, 1, [b""])

    with pytest.raises(StateError, match="another replica wrote it to a directory of its own"):
        store(tmp_path / "yours").read(0, name)


def test_a_crash_before_the_rename_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = store(tmp_path)
    name = some.write(0, 1, [b"whole"])

    def crash(path: Path, target: Path) -> Path:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(Crash):
            some.write(0, 2, [b"half"])

    assert store(tmp_path).read(0, name) == b"whole"
    assert [path.stem for path in files(tmp_path)] == [name]


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_leaves_the_old_ones_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    some = store(tmp_path)
    some.write(0, 1, [b"whole"])
    before = {path: path.read_bytes() for path in files(tmp_path)}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            # A device that is always full; the file is opened there instead.
            device = Path("/dev/full")
            if not device.exists():
                pytest.skip("no /dev/full here")
            real = Path.open
            patch.setattr(Path, "open", lambda path, mode: real(device, "wb") if mode == "xb" else real(path, mode))
            patch.setattr(os, "fchmod", lambda *_: None)  # the device stays as it is
        with pytest.raises(StateError, match="could not write a snapshot; No space left on device"):
            some.write(0, 3, [b"x" * 100_000])

    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_a_directory_that_cannot_be_made_is_an_error_of_state(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="could not write a snapshot; Not a directory"):
        store(tmp_path / "file" / "state").write(0, 1, [b""])


def test_files_that_a_killed_process_left_half_written_are_removed_those_of_living_ones_stay(tmp_path: Path) -> None:
    some = store(tmp_path)
    name = some.write(0, 1, [b"whole"])
    folder = files(tmp_path)[0].parent
    left, being_written = folder / ".incoming-12ab34cd", folder / ".incoming-99ab34cd"
    for path in (left, being_written):
        path.write_bytes(b"x")
        os.utime(path, (0, 0))

    with being_written.open() as file:  # by another replica, which the group may have put out
        fcntl.flock(file, fcntl.LOCK_EX)
        some.forget(0, (name,))

    assert {path.name for path in files(tmp_path)} == {being_written.name, f"{name}.snapshot"}


def test_the_check_leaves_nothing_behind_and_says_what_it_may_not_do(tmp_path: Path) -> None:
    assert "is not there yet; `run` makes it" in store(tmp_path / "state").prove()
    (tmp_path / "state" / "readings").mkdir(parents=True)
    assert "can be written, read and removed from" in store(tmp_path / "state").prove()
    assert files(tmp_path) == []

    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "readings").write_text("no directory")
    with pytest.raises(StateError, match="snapshots cannot be written, read and removed there; Not a directory"):
        store(tmp_path / "file").prove()


# ------------------------------------------------------------------------------------------------------ a shared folder


def shared(directory: Path) -> LocalStore:
    return LocalStore(directory, "readings", "g", shared=True)


def away(directory: Path) -> Path:
    """The share is no longer mounted: its mount point is an empty folder."""
    there = directory.rename(directory.with_name("elsewhere"))
    directory.mkdir()
    return there


def test_a_share_that_is_not_mounted_is_not_taken_for_state_that_is_gone(tmp_path: Path) -> None:
    name = shared(tmp_path / "share").write(0, 1, [b"state"])
    there = away(tmp_path / "share")

    with pytest.raises(StateUnavailable, match=r"streamer-state is not there: is the folder mounted\?"):
        shared(tmp_path / "share").read(0, name)
    (tmp_path / "share").rmdir()
    there.rename(tmp_path / "share")

    assert shared(tmp_path / "share").read(0, name) == b"state"


def test_a_share_that_shows_its_marker_and_not_the_snapshot_has_lost_it(tmp_path: Path) -> None:
    store = shared(tmp_path)
    name = store.write(0, 1, [b"state"])
    store.forget(0, (store.write(0, 3, [b"newer"]), store.write(0, 2, [b"new"])))

    with pytest.raises(StateError, match="it is not there"):
        store.read(0, name)


def test_who_knows_that_the_state_is_lost_makes_the_marker_and_goes_on(tmp_path: Path) -> None:
    name = shared(tmp_path / "share").write(0, 1, [b"state"])
    away(tmp_path / "share")

    (tmp_path / "share" / "streamer-state").touch()

    with pytest.raises(StateError, match="it is not there"):
        shared(tmp_path / "share").read(0, name)


def test_nothing_is_written_where_a_share_was_mounted_a_moment_ago(tmp_path: Path) -> None:
    store = shared(tmp_path / "share")
    store.write(0, 1, [b"state"])
    away(tmp_path / "share")

    with pytest.raises(StateError, match=r"is the folder mounted\?"):
        store.write(0, 2, [b"newer"])

    assert files(tmp_path / "share") == []


def test_a_share_used_by_an_earlier_version_is_read_and_marked_with_the_next_snapshot(tmp_path: Path) -> None:
    store = shared(tmp_path)
    name = store.write(0, 1, [b"state"])
    (tmp_path / "streamer-state").unlink()

    upgraded = shared(tmp_path)
    found = upgraded.read(0, name)
    upgraded.write(0, 2, [b"newer"])

    assert found == b"state"
    assert (tmp_path / "streamer-state").is_file()


def test_the_check_says_where_no_state_was_ever_kept(tmp_path: Path) -> None:
    store = shared(tmp_path)
    before = store.prove()
    store.write(0, 1, [b"state"])

    assert "no state has been kept there yet: is it mounted?" in before
    assert "mounted" not in store.prove()
