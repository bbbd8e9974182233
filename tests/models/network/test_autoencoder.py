"""Shapes, bounds and the bottleneck of the autoencoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ShapeError
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder


def build(**changes: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(Architecture(**{"features": 2, "window": 8, "patch": 4, "hidden": 8, "latent": 3} | changes))


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2), st.integers(1, 5))
def test_a_rebuilt_window_has_the_shape_of_the_window(
    features: int, patch: int, steps: int, layers: int, n: int
) -> None:
    network = build(features=features, window=patch * steps, patch=patch, layers=layers)
    x = torch.zeros(n, patch * steps, features)

    assert network(x).shape == x.shape
    assert network.encode(x).shape == (n, 3)


def test_nothing_passes_but_through_the_bottleneck() -> None:
    network = build()
    x = torch.randn(5, 8, 2)

    assert torch.equal(network(x), network.decode(network.encode(x)))


@pytest.mark.parametrize("shape", [(1, 7, 2), (1, 8, 3), (8, 2), (1, 1, 8, 2)])
def test_windows_of_another_shape_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(batch, 8, 2\); got \(") as refused:
        build()(torch.zeros(shape))

    assert str(shape) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": 0}, "features must be a positive integer; got 0"),
        ({"hidden": True}, "hidden must be a positive integer; got True"),
        ({"latent": 2.0}, "latent must be a positive integer; got 2.0"),
        ({"window": 10}, "window must be a multiple of patch; got 10 and 4"),
        ({"backbone": "transformer"}, "backbone must be one of lstm.*got 'transformer'"),
        ({"regulariser": "hope"}, "regulariser must be one of plain.*got 'hope'"),
    ],
)
def test_an_impossible_architecture_is_refused_in_words(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        build(**change)


def test_an_architecture_comes_back_from_its_dictionary() -> None:
    architecture = Architecture(features=3, window=32, patch=4, layers=2)

    assert Architecture(**architecture.to_dict()) == architecture
