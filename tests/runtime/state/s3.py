"""A real S3 API on loopback: moto's server, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.brokers import ends_with_us

PATIENCE_S = 60.0


@dataclass(frozen=True)
class S3:
    """An S3 server with one bucket."""

    endpoint: str
    bucket: str = "snapshots"

    @property
    def environment(self) -> dict[str, str]:
        """What finds it, in the words of S3's own tools."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def ask(self, method: str, path: str) -> bytes:
        """One plain request to the server; it does not look at signatures."""
        with urllib.request.urlopen(urllib.request.Request(self.endpoint + path, method=method), timeout=10) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def running(directory: Path) -> Iterator[S3]:
    """The server on a port the kernel gave it."""
    log_file = directory / "s3.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*ends_with_us(), sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        server = S3(_address(process, log_file))
        server.ask("PUT", f"/{server.bucket}")
        yield server
    finally:
        process.kill()
        process.wait(10)


def _address(process: subprocess.Popen[bytes], log_file: Path) -> str:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        for word in log_file.read_text(errors="replace").split():
            if word.startswith("http://127.0.0.1:") and not word.endswith(":0"):
                return word.rstrip("/")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            break
    raise RuntimeError(f"moto's server does not answer:\n{log_file.read_text(errors='replace')[-2000:]}")
