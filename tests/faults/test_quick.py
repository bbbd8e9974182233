"""A few faults of the matrix as a test; `make test-faults` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import kafka_home
from tests.faults.__main__ import main

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(kafka_home() is None, reason="faults want a real broker: KAFKA_HOME is not set"),
]


@pytest.mark.parametrize("fault", ["after commit", "before snapshot", "kill -9 at any moment"])
def test_nothing_is_lost_and_nothing_is_told_without_cause(fault: str, tmp_path: Path) -> None:
    assert main(["--only", fault, "--only", "one, local", "--kills", "6", "--keep", str(tmp_path)]) == 0


def test_a_comparison_that_finds_nothing_to_compare_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such fault"]) == 2

    assert "no round" in capsys.readouterr().err
