"""`make test-faults` does not pass for want of anything to compare."""

from __future__ import annotations

import pytest

from tests.brokers import kafka_home
from tests.faults.__main__ import main


@pytest.mark.skipif(kafka_home() is None, reason="faults want a real broker: KAFKA_HOME is not set")
def test_a_selection_that_selects_nothing_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such fault"]) == 2

    assert "no round" in capsys.readouterr().err
