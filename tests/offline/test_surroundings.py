"""`check` looks at the machine, says what is wrong, and changes nothing."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer import config
from streamer.config import Settings
from streamer.errors import StateError
from streamer.offline import surroundings
from streamer.offline.surroundings import clock, disk, secrets
from streamer.runtime.state.local import LocalStore

NOW_S = 1_760_000_000.0


@pytest.fixture
def open_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that all users of the machine may enter; pytest's own are for one user alone."""
    above = {Path(parent) for parent in tmp_path.resolve().parents}
    look = Path.stat

    def stat(self: Path, **given: bool) -> os.stat_result:
        found = look(self, **given)
        return os.stat_result((found.st_mode | 0o001, *found[1:])) if self in above else found

    monkeypatch.setattr(Path, "stat", stat)
    tmp_path.chmod(0o755)
    return tmp_path


def settings_of(directory: Path, **environ: str) -> Settings:
    path = directory / "streamer.yaml"
    path.write_text("records: {features: [a]}\n")
    return config.load(path, {f"STREAMER_{key}": value for key, value in environ.items()})


def test_secrets_that_others_can_read_are_named(open_path: Path) -> None:
    password, key = open_path / "password", open_path / "tls.key"
    for path in (password, key):
        path.write_text("secret")
        path.chmod(0o644)
    settings = settings_of(open_path, KAFKA__SASL_PASSWORD_FILE=str(password), KAFKA__SSL_KEYFILE=str(key))

    (found,) = secrets(settings)

    assert found.ok is None
    assert f"kafka.ssl_keyfile {key}, kafka.sasl_password {password}; chmod o=" in found.said
    for path in (password, key):
        path.chmod(0o640)
    assert list(secrets(settings)) == []


def test_a_secret_in_a_directory_of_its_owner_is_secret(open_path: Path) -> None:
    password = open_path / "secrets" / "password"
    password.parent.mkdir(mode=0o700)
    password.write_text("secret")
    password.chmod(0o644)

    assert list(secrets(settings_of(open_path, KAFKA__SASL_PASSWORD_FILE=str(password)))) == []


def test_state_and_bundles_of_earlier_versions_that_others_can_read_are_named(open_path: Path) -> None:
    for name in ("state", "bundles"):
        (open_path / name).mkdir(mode=0o755)
        (open_path / name / "file").write_text("x")
        (open_path / name / "file").chmod(0o644)

    said = [finding.said for finding in secrets(settings_of(open_path))]

    assert [text.partition(" in ")[0] for text in said] == ["state", "bundles"]
    assert f"chmod -R go= {open_path / 'state'}" in said[0]


Vfs = namedtuple("Vfs", "f_bavail f_frsize f_files f_favail")


@pytest.mark.parametrize(
    ("free_mib", "inodes", "ok", "said"),
    [
        (200, 10_000, True, "200 MiB free for snapshots"),
        (93, 10_000, None, "93 MiB free for snapshots in {}, wanted 95 MiB: 3 snapshots of 1000 stream(s)"),
        (200, 5, None, "but only 5 inodes"),
    ],
)
def test_room_for_three_snapshots_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, inodes: int, ok: bool | None, said: str
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: Vfs(free_mib << 10, 1024, 1_000_000, inodes))
    directory = tmp_path / "not" / "made"

    found = disk(directory, streams=1000, bytes_per_stream=10 * 1024 + 486)

    assert found.ok is ok
    assert said.format(directory) in found.said
    assert not directory.exists()


def test_what_lies_there_already_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: Vfs(100 << 10, 1024, 0, 0))
    (tmp_path / "one").write_bytes(b"x" * (20 << 20))

    assert disk(tmp_path, streams=1, bytes_per_stream=18 << 20).ok is True
    assert disk(tmp_path, streams=1, bytes_per_stream=19 << 20).ok is None


def test_a_clock_behind_the_newest_record_is_said_to_be_wrong() -> None:
    found = clock(NOW_S, int((NOW_S + 90) * 1000))

    assert found.ok is None
    assert found.said.startswith("the newest record was stamped 90 s ahead of this machine's clock")
    assert "scores do not" in found.said


@pytest.mark.parametrize(
    ("kernel", "ok", "said"),
    [
        (True, True, "clock is synchronised"),
        (False, None, "not synchronised (NTP)"),
        (None, True, "not behind the newest record"),
    ],
)
def test_what_the_kernel_says_of_its_clock_counts(
    monkeypatch: pytest.MonkeyPatch, kernel: bool | None, ok: bool | None, said: str
) -> None:
    monkeypatch.setattr(surroundings, "_synchronised", lambda: kernel)

    found = clock(NOW_S, int((NOW_S + 1) * 1000))

    assert found.ok is ok
    assert said in found.said


def test_the_kernel_can_be_asked() -> None:
    assert surroundings._synchronised() in (True, False, None)


def test_a_state_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert "is not there yet" in LocalStore(tmp_path / "state", "readings", "group").prove()
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_that_cannot_be_made_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access: Callable[..., bool] = lambda path, mode: False  # noqa: E731 - root may write anywhere
    monkeypatch.setattr(os, "access", access)

    with pytest.raises(StateError, match=f"{tmp_path} cannot be written to"):
        LocalStore(tmp_path / "state", "readings", "group").prove()


@pytest.mark.parametrize(
    ("client", "topic", "said"),
    [
        ("kafka-python", {"compression.type": "producer", "max.message.bytes": "99000000"}, []),
        ("confluent", {"compression.type": "uncompressed", "max.message.bytes": "1048588"}, []),
        ("confluent", {"compression.type": "producer", "max.message.bytes": "1048588"}, ["without a bound"]),
        ("confluent", {}, ["without a bound"]),  # the broker does not tell
        ("confluent", {"compression.type": "uncompressed", "max.message.bytes": "99000000"}, ["reads none above"]),
    ],
)
def test_who_reads_with_confluent_is_told_what_a_compressed_record_may_do(
    tmp_path: Path, client: str, topic: dict[str, str], said: list[str]
) -> None:
    found = list(surroundings.unpacking(settings_of(tmp_path, KAFKA__CLIENT=client), topic))

    assert [finding.ok for finding in found] == [None] * len(said)
    assert all(words in finding.said for words, finding in zip(said, found, strict=True))
