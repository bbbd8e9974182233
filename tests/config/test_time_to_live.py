"""A stream must outlive what is waited for."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests import tiny


@pytest.mark.parametrize("stream_ttl", [30.0, 90.0])
def test_a_time_to_live_within_the_lateness_and_a_bar_is_refused(stream_ttl: float) -> None:
    time = {"lateness": 30.0, "grid": 60.0, "features": {"heat": "mean(heat)", "current": "mean(current)"}}

    with pytest.raises(ValidationError, match=r"records.stream_ttl must be longer than time.lateness and time.grid"):
        tiny.settings(records={"stream_ttl": stream_ttl}, time=time)
    tiny.settings(records={"stream_ttl": 91.0}, time=time)
    tiny.settings(records={"stream_ttl": 0.0}, time=time)  # never
