"""Processes that train together come to one network, as good as that of one alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed

from models.fitting.distributed import ALONE, Ranks, join
from tests.models.fitting import together
from tests.models.fitting.together import KINDS

Found = list[dict[str, Any]]

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this build of torch has no gloo, over which processes talk on a CPU",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*torchrun, "-m", "tests.models.fitting.together", str(out)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


def test_every_process_hears_every_other(found: Found) -> None:
    assert [each["said"] for each in found] == [["I am 0 ü", "I am 1 ü"]] * 2
    assert [each["size"] for each in found] == [2, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_hold_the_same_network_and_saw_the_same_losses(found: Found, kind: str) -> None:
    assert found[0][kind] == found[1][kind]


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_does(found: Found, kind: str) -> None:
    weights, losses = together.learn(kind, ALONE)
    shared_weights, shared_losses = found[0][kind]

    if kind in ("plain", "sparse", "sparse-kl", "context"):  # no draws: the same sums in another order
        np.testing.assert_allclose(shared_losses, losses, rtol=1e-3)
        np.testing.assert_allclose(shared_weights, weights, atol=1e-2)
    else:
        assert shared_losses[-1][1] == pytest.approx(losses[-1][1], rel=0.25)


def test_the_mean_of_a_process_alone_is_its_own() -> None:
    value = torch.ones(2, requires_grad=True)

    assert ALONE.mean(value) is value
    assert ALONE.sum(1.0, 2.0) == [1.0, 2.0]
    assert ALONE.gather("word") == ["word"]
    assert join() is ALONE


def test_a_batch_is_shared_without_rest() -> None:
    batch = np.arange(6)

    assert [Ranks(rank, 3).share(batch).tolist() for rank in range(3)] == [[0, 3], [1, 4], [2, 5]]
