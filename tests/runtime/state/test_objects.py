"""Snapshots in a bucket, against a real S3 API."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from streamer.errors import ConfigError, StateError, StateUnavailable
from streamer.runtime.state import objects
from streamer.runtime.state.objects import ObjectStore
from tests.brokers import unique
from tests.runtime.state import s3
from tests.runtime.state.s3 import S3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    pytest.importorskip("obstore", reason="the extra object-store is not installed")
    pytest.importorskip("moto.server", reason="moto, which plays S3, is not installed")
    with s3.running(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture
def bucket(server: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place nobody else uses, credentials in the environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.bucket}/{unique('state')}"


def names_in(server: S3, url: str) -> list[str]:
    """Last parts of the names of all objects below a URL, but for the marker."""
    prefix = url.partition(f"{server.bucket}/")[2]
    listing = server.ask("GET", f"/{server.bucket}?list-type=2&prefix={prefix}").decode()
    names = [part.partition("</Key>")[0].rpartition("/")[2] for part in listing.split("<Key>")[1:]]
    return [name for name in names if name != "streamer-state"]


def test_what_was_written_is_read_by_another_replica(bucket: str) -> None:
    name = ObjectStore(bucket, "readings", "group").write(3, 1842, [b"one ", b"two ", b"", b"three"])

    assert ObjectStore(bucket, "readings", "group").read(3, name) == b"one two three"
    assert len(name) <= 512
    assert name.isascii()
    assert name.isprintable()


def test_a_large_snapshot_goes_up_in_parts(bucket: str) -> None:
    store = ObjectStore(bucket, "readings", "group")
    body = [b"head", bytes(range(256)) * 80_000, b"tail"]

    assert store.read(0, store.write(0, 7, body)) == b"".join(body)


def test_two_writers_of_one_offset_do_not_overwrite_each_other(bucket: str) -> None:
    evicted, successor = (ObjectStore(bucket, "readings", "group") for _ in range(2))

    names = evicted.write(0, 10, [b"old owner"]), successor.write(0, 10, [b"new owner"])

    assert [successor.read(0, name) for name in names] == [b"old owner", b"new owner"]


def test_only_what_is_older_than_the_oldest_kept_is_removed(bucket: str, server: S3) -> None:
    store = ObjectStore(bucket, "readings", "group")
    names = [store.write(0, offset, [b"%d" % offset]) for offset in (10, 20, 30, 40)]
    elsewhere = store.write(1, 5, [b"another partition"]), ObjectStore(bucket, "readings", "other").write(0, 5, [b"g"])

    store.forget(0, [names[2], names[1]])  # 40 was written, its commit is not acknowledged yet

    assert sorted(names_in(server, bucket)) == sorted([*names[1:], *elsewhere])


def test_what_a_crashed_or_evicted_writer_left_is_removed_in_time(bucket: str, server: S3) -> None:
    mine, crashed = (ObjectStore(bucket, "readings", "group") for _ in range(2))
    first = mine.write(0, 10, [b"a"])
    mine.forget(0, [first])
    left = crashed.write(0, 15, [b"never committed"])
    second, third = mine.write(0, 20, [b"b"]), mine.write(0, 30, [b"c"])
    mine.forget(0, [second, first])
    successor = ObjectStore(bucket, "readings", "group")
    fourth = successor.write(0, 40, [b"d"])

    successor.forget(0, [fourth, third])

    assert left not in names_in(server, bucket)
    assert sorted(names_in(server, bucket)) == [third, fourth]


def test_all_snapshots_of_a_partition_are_found_and_removed_if_told_so(bucket: str) -> None:
    store, other = (ObjectStore(bucket, "readings", "group") for _ in range(2))
    earlier, name = other.write(0, 900, [b"an earlier topic"]), store.write(0, 10, [b"a"])
    store.write(1, 5, [b"another partition"])

    assert sorted(store.names(0)) == [name, earlier]
    assert store.names(7) == []
    store.forget(0, [name], [earlier])
    assert store.names(0) == [name]


def test_a_removal_that_comes_late_from_an_evicted_owner_takes_nothing_of_its_successor(
    bucket: str, server: S3
) -> None:
    evicted, successor = (ObjectStore(bucket, "readings", "group") for _ in range(2))
    a0, a1 = evicted.write(0, 10, [b"a0"]), evicted.write(0, 20, [b"a1"])  # committed; asleep before it removes
    b1, b2 = successor.write(0, 30, [b"b1"]), successor.write(0, 40, [b"b2"])
    successor.forget(0, [b2, b1])

    evicted.forget(0, [a1, a0])

    assert sorted(names_in(server, bucket)) == [b1, b2]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "00000000000000000001-ab", "x" * 600])
def test_a_name_that_is_not_ours_is_never_asked_for(bucket: str, name: str) -> None:
    with pytest.raises(StateError, match="is no name of a snapshot in s3://"):
        ObjectStore(bucket, "readings", "group").read(0, name)


def test_a_snapshot_that_is_gone_or_damaged_is_said_to_be(bucket: str, server: S3) -> None:
    import obstore
    from obstore.store import from_url

    store = ObjectStore(bucket, "readings", "group")
    gone, damaged = store.write(0, 1, [b"gone"]), store.write(0, 2, [b"damaged"])
    raw = from_url(bucket)
    (path,) = [entry["path"] for batch in obstore.list(raw) for entry in batch if damaged in entry["path"]]
    obstore.put(raw, path, b"damagec")
    obstore.delete(raw, path.replace(damaged, gone))

    with pytest.raises(StateError, match="it is not there"):
        store.read(0, gone)
    with pytest.raises(StateError, match="damaged"):
        store.read(0, damaged)


def test_another_prefix_or_bucket_is_not_taken_for_state_that_is_gone(bucket: str) -> None:
    name = ObjectStore(bucket, "readings", "group").write(0, 1, [b"state"])

    for wrong in (f"{bucket}-wrong", "s3://nobody-made-this/state"):
        with pytest.raises(StateUnavailable, match=rf"{wrong}/streamer-state is not there: is this the place"):
            ObjectStore(wrong, "readings", "group").read(0, name)

    assert ObjectStore(bucket, "readings", "group").read(0, name) == b"state"


def test_who_knows_that_the_state_is_lost_makes_the_marker_and_goes_on(bucket: str) -> None:
    import obstore
    from obstore.store import from_url

    obstore.put(from_url(bucket), "streamer-state", b"")

    with pytest.raises(StateError, match="it is not there"):
        ObjectStore(bucket, "readings", "group").read(0, "00000000000000000001-" + "0" * 16 + "-" + "0" * 32)


def test_a_prefix_used_by_an_earlier_version_is_read_and_marked_with_the_next_snapshot(bucket: str) -> None:
    import obstore
    from obstore.store import from_url

    name = ObjectStore(bucket, "readings", "group").write(0, 1, [b"state"])
    raw = from_url(bucket)
    obstore.delete(raw, "streamer-state")

    upgraded = ObjectStore(bucket, "readings", "group")
    found = upgraded.read(0, name)
    upgraded.write(0, 2, [b"newer"])

    assert found == b"state"
    assert obstore.head(raw, "streamer-state")["path"] == "streamer-state"


def test_a_bucket_that_is_not_there_is_said_in_one_line(bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    store = ObjectStore("s3://nobody-made-this/state", "readings", "group")

    with pytest.raises(StateError, match=r"s3://nobody-made-this/state/readings/.*the bucket is not there") as refused:
        store.write(0, 1, [b"x"])
    with caplog.at_level(logging.WARNING):
        store.forget(0, ["00000000000000000001-" + "0" * 16 + "-" + "0" * 32])
        store.forget(0, ["00000000000000000002-" + "0" * 16 + "-" + "0" * 32])

    assert "\n" not in str(refused.value)
    assert len(caplog.records) <= 1  # and not once a checkpoint


def test_a_store_that_does_not_answer_is_given_up_within_a_bound(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(objects, "RETRIES", 1)

    store = ObjectStore(bucket, "readings", "group")

    with pytest.raises(StateError, match="could not write"):
        store.write(0, 1, [b"x"])
    with pytest.raises(StateUnavailable, match="could not read"):  # which is not to say that it is gone
        store.read(0, "00000000000000000001-" + "0" * 16 + "-" + "0" * 32)


def test_the_check_writes_reads_lists_and_removes(bucket: str, server: S3) -> None:
    ObjectStore(bucket, "readings", "group").prove()

    assert names_in(server, bucket) == []


def test_a_url_that_says_too_little_is_a_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="the extra object-store is not installed")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(ConfigError, match=r"state.store az://container/x cannot be used: .*[Aa]ccount"):
        ObjectStore("az://container/x", "readings", "group")


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "az://container/prefix"])
def test_the_other_clouds_are_reached_by_the_same_code(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore", reason="the extra object-store is not installed")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "bWFkZS11cA==")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")

    ObjectStore(url, "readings", "group").close()
