"""`streamer demo` as a newcomer runs it, shorter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(170)
def test_the_demo_catches_its_faults_and_draws_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "demo", "--seconds", "15", "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=160, check=False,
    )  # fmt: skip

    summary = re.search(r"(\d) of 5 faults caught, (\d+) false alert", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert summary is not None
    assert int(summary[1]) >= 4
    assert int(summary[2]) <= 1
    assert "open" in done.stdout
    assert "resolve" in done.stdout
    assert (tmp_path / "incident.png").read_bytes().startswith(b"\x89PNG")
