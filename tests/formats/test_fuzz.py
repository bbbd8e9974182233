"""A short run of the fuzz, and what its long runs found."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("fastavro", reason="needs streamer[schema-registry]")
pytest.importorskip("google.protobuf", reason="needs streamer[schema-registry]")

from models.errors import ArtifactError
from models.store.registry import Registry
from streamer.connectors.kafka.avro_schemas import avro_reader
from streamer.core.keyed_state import KeyedState
from streamer.errors import StateError
from streamer.formats import FormatOptions, decoder_of
from streamer.formats.rejects import Refused
from streamer.runtime.state.pointer import Pointer, read_note
from streamer.runtime.state.snapshots import FORMAT, Codec
from tests import tiny
from tests.formats.fuzz import states
from tests.formats.fuzz.running import SHARES, Share, feed
from tests.messages import batch

QUICK = 8_000  # inputs of all targets together


@pytest.mark.parametrize("one", SHARES, ids=lambda one: one.name)
def test_no_input_makes_a_decoder_raise_or_lose_a_record(one: Share) -> None:
    inputs = max(50, QUICK * one.share // 1000)

    tally, _ = feed(one.make(), inputs, seed=1)

    assert tally.accepted + tally.refused == tally.inputs == inputs
    assert tally.accepted > 0


def test_the_same_seed_gives_the_same_inputs() -> None:
    tallies = [feed(SHARES[0].make(), 500, seed=2)[0] for _ in range(2)]

    assert tallies[0] == tallies[1]


def test_a_column_may_have_the_name_that_dotted_columns_begin_with() -> None:
    options = FormatOptions(("m.a",), format="csv", timestamp="t", timestamp_unit="s")

    decoded = decoder_of(options, KeyedState()).decode(
        batch([b"stream,t,m,m.a\ns,5,7,1.5", b"stream,t,m.a,m\ns,6,2,x"])
    )

    assert decoded.rejects == []
    assert decoded.readings.values.tolist() == [[1.5], [2.0]]


def test_avro_bytes_cut_short_are_refused_in_the_same_words_each_time() -> None:
    read = avro_reader(7, '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "double"}]}', [])

    said = []
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            read(b"\x00")
        said.append(refused.value.detail)

    assert said == ["the message ends before the last field of Avro schema 7"] * 2


def test_a_manifest_that_claims_a_network_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    version = registry.publish(tiny.fit(epochs=1), created=datetime(2026, 1, 2, tzinfo=UTC), fingerprint="0")
    path = tmp_path / version / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["architecture"]["hidden"] = 10**40
    path.write_text(json.dumps(manifest))

    with pytest.raises(ArtifactError, match="does not fit the architecture"):
        registry.load(version)


def test_a_whole_snapshot_without_what_belongs_into_its_header_is_refused() -> None:
    codec = Codec("readings", "s1")
    header, columns = json.dumps({"format": FORMAT, "topic": "readings"}).encode(), b""

    with pytest.raises(StateError, match="the header makes no sense"):
        codec.decode(0, states.sealed(header, columns))


def test_a_snapshot_whose_frame_claims_more_than_its_sizes_is_not_unpacked() -> None:
    with pytest.raises(StateError, match="not as large as it says"):
        Codec("readings", "s1").decode(0, states.sealed(b"{}", b"x" * 1000, {3: 10}))


def test_a_note_of_whatever_text_is_no_error() -> None:
    assert read_note('{"state": ["\udcb0"]}') == Pointer()
