"""Examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import models
import streamer

# Importing these starts the program, or wants an extra that may not be installed.
NOT_IMPORTED = ("streamer.__main__", "streamer.connectors.kafka.confluent.")
MODULES = sorted(
    module.name
    for package in (models, streamer)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.startswith(NOT_IMPORTED)
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))

    assert failed == 0


def test_there_are_examples() -> None:
    found = sum(
        doctest.testmod(importlib.import_module(name)).attempted for name in MODULES if name.startswith("models.")
    )

    assert found >= 5
