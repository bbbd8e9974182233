"""Replicas: daemons as users start them, forked from a process that has everything loaded.

A life so begins in milliseconds, where `python -m streamer run` takes seconds to import. Not inside: what is done to
them (`rounds`).
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Loaded before the first fork, since all of it is used.
import confluent_kafka  # noqa: F401
import kafka  # noqa: F401
import torch

import streamer.cli.commands
import streamer.connectors.kafka.confluent
import streamer.connectors.kafka.kafka_python
import streamer.connectors.kafka.probe
import streamer.runtime.daemon  # noqa: F401
from streamer.cli import main
from tests.faults.failpoints import Failpoint, install

if TYPE_CHECKING:
    from tests.e2e.harness import Scrape

torch.set_num_threads(1)
# A child may be told to arm its failpoint before it has one; it is told again.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

_PR_SET_PDEATHSIG = 1
_lock = threading.Lock()  # multiprocessing looks after all children at once


def _live(config: str, log: str, failpoint: Failpoint | None) -> None:
    """The child: one daemon until it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if failpoint is not None:
        install(failpoint)
    code = main(["run", "--config", config])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def context() -> Any:
    """Where processes are forked from; everything here is loaded there once."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([__name__])
    return forking


class Life:
    """One process, from its start to its end."""

    def __init__(self, config: Path, log: Path, failpoint: Failpoint | None = None) -> None:
        self.log_file, self.failpoint, self.address = log, failpoint, ""
        with _lock:
            self._process = context().Process(target=_live, args=(str(config), str(log), failpoint), daemon=True)
            self._process.start()
        self.pid: int = self._process.pid
        self.began_s = time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0: the signal that ended it."""
        with _lock:
            code: int | None = self._process.exitcode
        return code

    @property
    def runs(self) -> bool:
        return self.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        if self.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def ended(self, within_s: float) -> int | None:
        """Its exit code once it has ended; None: not in time."""
        deadline_s = time.monotonic() + within_s
        while (code := self.exit_code) is None and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return code

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def serving(self) -> bool:
        """Whether its address is known, from its log."""
        if not self.address and (found := re.search(r"metrics at (https?://\S+)/metrics", self.log())):
            self.address = found[1]
        return bool(self.address)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of one page; 0 when nobody answers."""
        if not self.serving():
            return 0, "not serving yet"
        try:
            with urllib.request.urlopen(self.address + path, timeout=10) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> Scrape:
        """`/metrics` now; empty when nobody answers."""
        from prometheus_client.parser import text_string_to_metric_families

        from tests.e2e.harness import Scrape

        scrape = Scrape()
        status, text = self.get("/metrics")
        for family in text_string_to_metric_families(text if status == 200 else ""):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                scrape[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return scrape

    def works(self) -> bool:
        """Whether it has its bundle and takes signals."""
        return self.serving() and "scoring with bundle" in self.log()

    def reads(self) -> bool:
        """Whether it has had partitions."""
        return self.works() and "reading from offset" in self.log()

    def bundles(self) -> list[str]:
        """Versions it took into use, one after the other."""
        return re.findall(r"scoring with bundle ([^;\s]+)", self.log())

    def rss_bytes(self) -> int:
        """Memory it has resident."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0
