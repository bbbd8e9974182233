"""Which bundle is in use where records may have been told with another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from streamer.connectors.kafka import Commit
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics
from streamer.runtime.model_watch import ModelWatch
from streamer.runtime.one_bundle import OneBundle
from streamer.runtime.partitions import Partitions
from streamer.runtime.poison import POISONED_AFTER, Poison
from streamer.runtime.positions import Positions
from streamer.runtime.state.pointer import Pointer, read_note
from tests.runtime.stand_ins import NEWER, Bundles, Offsets, Saves, keeper_in, new_pipeline, partitions_of, saved
from tests.tiny import VERSION


def test_a_newer_bundle_is_taken_into_use_before_partitions_that_another_may_have_scored_with_it(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    keeper = keeper_in(tmp_path)
    offsets = Offsets({0: 40, 1: 40}, states={p: (name,) for p, name in saved(keeper, tiny_detector, [0, 1]).items()})
    pipeline, positions = new_pipeline(tiny_detector), Positions()
    bundles = Bundles({VERSION: tiny_detector, NEWER: tiny_detector})
    partitions = partitions_of(pipeline, keeper, offsets, positions, bundles=bundles)
    partitions.assigned([0])
    before, bundles.now = pipeline.scorer.version, NEWER
    partitions.revoked([0])
    partitions.assigned([0, 1])

    assert (before, pipeline.scorer.version) == (VERSION, NEWER)
    assert {p: each.next_offset for p, each in positions.items()} == {0: 40, 1: 40}


def begun_with(
    detector: Detector,
    directory: Path,
    told_with: dict[int, str],
    *,
    held: Sequence[str] = (VERSION, NEWER),
    poison: Poison | None = None,
    end: int = 100,
    damaged: bool = False,
    bundles: Bundles | None = None,
    checkpoints: Saves | None = None,
    written_with: str = VERSION,
) -> tuple[Partitions, Any, Pipeline, Positions, Offsets]:
    """A process with the newer bundle that begins partitions of which 60 records since the commit were read."""
    keeper, positions = keeper_in(directory), Positions()
    offsets = Offsets(dict.fromkeys(told_with, 40), end=end)
    for partition, name in saved(keeper, detector, list(told_with), version=written_with).items():
        if damaged:
            next(directory.rglob(f"{name}*")).write_bytes(b"damaged")
        offsets.commits[partition] = Commit(40, Pointer((name,), bundle=told_with[partition]).note())
    pipeline, metrics = new_pipeline(detector, NEWER), Metrics(CollectorRegistry())
    bundles = bundles or Bundles(dict.fromkeys(held, detector))
    bundles.now = NEWER
    checkpoints = checkpoints or Saves(offsets, keeper, pipeline)
    checkpoints.positions, checkpoints.offsets = positions, offsets
    parts: Any = {"consumer": offsets, "checkpoints": checkpoints, "poison": Poison() if poison is None else poison}
    watch = ModelWatch(pipeline, cast(Any, bundles), metrics)
    one_bundle = OneBundle(
        positions, pipeline=pipeline, watch=watch, again=lambda turn: partitions.begin_again(turn), **parts
    )
    partitions = partitions_of(
        pipeline,
        keeper,
        offsets,
        positions,
        bundles=bundles,
        metrics=metrics,
        poison=parts["poison"],
        one_bundle=one_bundle,
    )
    partitions.assigned(list(told_with))
    return partitions, one_bundle, pipeline, positions, offsets


def test_what_may_have_been_told_already_is_told_again_with_the_bundle_of_then_and_the_newest_comes_after_it(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: VERSION})
    versions = [pipeline.scorer.version]
    for partition in (0, 1):
        assert bundle.named()
        positions[partition].next_offset = offsets.end
        bundle.look()
        versions.append(pipeline.scorer.version)
    bundle.named()

    assert versions == [VERSION, VERSION, NEWER]
    assert [Pointer(("s100",), bundle=NEWER).note()] * 2 == [commit.note for commit in offsets.commits.values()]
    assert {commit.offset for commit in offsets.commits.values()} == {100}


def test_partitions_told_with_different_bundles_take_turns(tiny_detector: Detector, tmp_path: Path) -> None:
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: NEWER})
    turns = [(pipeline.scorer.version, offsets.paused)]
    for partition in (1, 0):
        bundle.named()
        positions[partition].next_offset = offsets.end
        bundle.look()
        turns.append((pipeline.scorer.version, offsets.paused))
    bundle.look()

    assert turns == [(NEWER, [0]), (VERSION, [1]), (NEWER, [])]
    assert pipeline.scorer.version == NEWER


def test_a_partition_whose_turn_has_come_goes_on_with_all_that_its_bundle_had_learned(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: NEWER})
    (name,) = read_note(offsets.commits[0].note).states
    kept = keeper_in(tmp_path).read(0, name).state
    bundle.named()
    positions[1].next_offset = offsets.end
    bundle.look()
    state = pipeline.export_partition(0)

    assert pipeline.scorer.version == VERSION
    assert kept.columns["adaptation.windows"].any()
    assert {
        column for column in kept.columns if not np.array_equal(kept.columns[column], state.columns[column])
    } == set()
    assert (offsets.sought[0], positions[0].next_offset, offsets.paused) == (40, 40, [1])


@pytest.mark.parametrize("when", ["held when the others came", "begun with the others", "a rebalance in between"])
def test_a_partition_that_needs_no_bundle_keeps_what_it_learned_while_an_older_one_is_in_use_for_others(
    tiny_detector: Detector, tmp_path: Path, when: str
) -> None:
    """Read to its end and committed, partition 1 waits; with the older bundle its streams would learn anew."""
    partitions, bundle, pipeline, positions, offsets = begun_with(
        tiny_detector, tmp_path, {1: NEWER}, end=40, written_with=NEWER
    )
    keeper = keeper_in(tmp_path)
    (name,) = saved(keeper, tiny_detector, [0]).values()
    commit, end = Commit(40, Pointer((name,), bundle=VERSION).note()), 100
    learned = pipeline.export_partition(1).columns
    if when == "begun with the others":
        partitions.revoked([1])
    offsets.commits[0], offsets.end = commit, end
    partitions.assigned([0, 1] if when == "begun with the others" else [0])
    bundle.look()
    if when == "a rebalance in between":
        partitions.revoked([0, 1])
        offsets.paused = []
        partitions.assigned([0, 1])
    turn = pipeline.scorer.version, offsets.paused
    positions[0].next_offset = end
    bundle.look()
    bundle.look()
    state = pipeline.export_partition(1).columns

    assert turn == (VERSION, [1])
    assert (pipeline.scorer.version, offsets.paused, positions[1].next_offset) == (NEWER, [], 40)
    assert learned["adaptation.windows"].any()
    assert {column for column in learned if not np.array_equal(learned[column], state[column])} == set()


def test_a_checkpoint_that_takes_long_does_not_keep_the_next_bundle_out(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    """A bucket takes 9 s for 100,000 streams."""
    checkpoints = Saves(Offsets({}), keeper_in(tmp_path), new_pipeline(tiny_detector))
    _, bundle, pipeline, positions, offsets = begun_with(
        tiny_detector, tmp_path, {0: VERSION, 1: NEWER}, checkpoints=checkpoints
    )
    positions[1].next_offset, checkpoints.write_s = offsets.end, 9.0
    bundle.look()

    assert (pipeline.scorer.version, offsets.paused) == (VERSION, [1])


def test_a_bundle_that_is_gone_is_not_waited_for(tiny_detector: Detector, tmp_path: Path) -> None:
    _, alone, pipeline, _, offsets = begun_with(tiny_detector, tmp_path / "a", {0: VERSION}, held=[NEWER])
    alone.look()
    begun = pipeline.scorer.version, offsets.paused, alone.named()
    _, bundle, pipeline, positions, offsets = begun_with(
        tiny_detector, tmp_path / "b", {0: VERSION, 1: NEWER}, held=[NEWER]
    )
    positions[1].next_offset = offsets.end
    bundle.look()

    assert begun == (NEWER, [], True)
    assert (pipeline.scorer.version, offsets.paused) == (NEWER, [])


def test_a_bundle_that_was_missing_once_is_used_where_it_is_needed_when_it_is_there(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    bundles = Bundles({NEWER: tiny_detector})
    partitions, bundle, pipeline, _, _ = begun_with(tiny_detector, tmp_path, {0: VERSION}, bundles=bundles)
    missing = pipeline.scorer.version
    bundles.held = {NEWER: tiny_detector, VERSION: tiny_detector}  # copied to this replica after others
    partitions.revoked([0])
    partitions.assigned([0])

    assert (missing, pipeline.scorer.version) == (NEWER, VERSION)
    assert bundle.named()


def test_a_partition_that_cannot_be_read_keeps_the_bundle_that_told_what_lies_before_the_bad_batch(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    poison = Poison({(0, 60): POISONED_AFTER})
    _, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION, 1: NEWER}, poison=poison)
    bundle.named()
    positions[1].next_offset = offsets.end
    bundle.look()
    bundle.named()

    assert pipeline.scorer.version == NEWER
    # A new process reads on up to 60, which has been told.
    assert read_note(offsets.commits[0].note).bundle == VERSION


def test_where_all_is_committed_no_bundle_is_waited_for_though_state_must_be_rebuilt(
    tiny_detector: Detector, tmp_path: Path
) -> None:
    _, _, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION}, end=40, damaged=True)

    assert (positions[0].next_offset, positions[0].publish_from) == (0, 40)
    assert (pipeline.scorer.version, offsets.paused) == (NEWER, [])


def test_a_rebalance_in_between_does_not_let_the_newest_bundle_in(tiny_detector: Detector, tmp_path: Path) -> None:
    partitions, bundle, pipeline, positions, offsets = begun_with(tiny_detector, tmp_path, {0: VERSION})
    bundle.named()
    positions[0].next_offset = 70
    partitions.revoked([0])
    partitions.assigned([0])
    in_between = pipeline.scorer.version, read_note(offsets.commits[0].note).bundle
    positions[0].next_offset = 100
    partitions.revoked([0])
    given_back = read_note(offsets.commits[0].note).bundle
    partitions.assigned([0])

    assert in_between == (VERSION, VERSION)
    assert given_back is None  # nothing is told behind it
    assert pipeline.scorer.version == NEWER
