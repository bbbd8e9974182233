"""Faults that somebody asks for while `streamer simulate` runs: a folder that both can reach, a file a request.

    spike-1f0c.json      what is asked for, written whole or not at all
    spike-1f0c.answer    what became of it, which whoever asked takes away

Not inside: the machines and what a fault does to them (`machines`), when others come by chance (`simulate`).
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamer.errors import BrokerError, DataError
from streamer.offline.machines import FAULT_LENGTH, KINDS, Fault

REQUEST, ANSWER = ".json", ".answer"
LONGEST = 1440  # readings: a machine's day
WAIT_S = 30.0
_MOST_BYTES = 4096
_AT_ONCE = 20  # requests looked at before the next reading
_LOOK_S = 0.1

log = logging.getLogger(__name__)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault that is asked for."""

    kind: str
    machine: str
    readings: int  # it lasts


class Answer(msgspec.Struct, frozen=True):
    """What became of it."""

    accepted: bool
    text: str


def request(folder: Path, kind: str, machine: str, readings: int | None = None, *, wait_s: float = WAIT_S) -> str:
    """Ask the simulator that watches `folder` for a fault; what it says.

    Args:
        folder: The one given to `simulate --requests`.
        kind: One of `machines.KINDS`.
        machine: Name of a simulated machine.
        readings: How many the fault lasts; None: what is usual for its kind.
        wait_s: For the answer.

    Raises:
        DataError: The folder cannot be written to, or the simulator refuses.
        BrokerError: No simulator answers; the request is withdrawn.
    """
    asked = Request(kind, machine, FAULT_LENGTH[kind] if readings is None else readings)
    name = f"{kind}-{secrets.token_hex(4)}"
    file, answer = folder / f"{name}{REQUEST}", folder / f"{name}{ANSWER}"
    try:
        _write(file, msgspec.json.encode(asked))
    except OSError as error:
        raise DataError(
            f"--requests: wanted the folder that `simulate --requests` watches; {folder}: {error.strerror}"
        ) from None
    deadline_s, pause = time.monotonic() + wait_s, threading.Event()
    while not answer.exists():
        if time.monotonic() > deadline_s:
            file.unlink(missing_ok=True)
            raise BrokerError(
                f"no simulator has taken the request within {wait_s:g} s; is `streamer simulate --requests {folder}` "
                "running?"
            )
        pause.wait(_LOOK_S)
    said = msgspec.json.decode(answer.read_bytes(), type=Answer)
    answer.unlink(missing_ok=True)
    if not said.accepted:
        raise DataError(said.text)
    return said.text


class Requests:
    """Those that lie in a folder.

    Args:
        folder: Watched; made if it is not there.
        names: Of the simulated machines.

    Raises:
        DataError: The folder cannot be used.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._machines = folder, {name: number for number, name in enumerate(names)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for left in sorted(folder.glob(f"*{REQUEST}")):  # nobody waits for them any more
                left.unlink()
        except OSError as error:
            raise DataError(f"--requests: wanted a folder to watch; {folder}: {error.strerror}") from None

    def take(self, number: int) -> list[Fault]:
        """The faults asked for since the last call; they begin with reading `number`."""
        taken = []
        for file in sorted(self._folder.glob(f"*{REQUEST}"))[:_AT_ONCE]:
            try:
                fault, answer = self._read(file, number)
                file.unlink()
                _write(file.with_suffix(ANSWER), msgspec.json.encode(answer))
            except OSError as error:
                log.warning("request %s: %s", file.name, error.strerror)
                continue
            log.log(logging.INFO if answer.accepted else logging.WARNING, "request: %s", answer.text)
            if fault is not None:
                taken.append(fault)
        return taken

    def _read(self, file: Path, number: int) -> tuple[Fault | None, Answer]:
        with file.open("rb") as content:
            text = content.read(_MOST_BYTES)
        try:
            asked = msgspec.json.decode(text, type=Request)
        except msgspec.DecodeError as error:
            return None, Answer(False, f"wanted a fault with kind, machine and readings: {error}")
        if asked.kind not in KINDS:
            return None, Answer(False, f"wanted a fault of {', '.join(KINDS)}; got {asked.kind[:80]!r}")
        if asked.machine not in self._machines:
            names = list(self._machines)
            return None, Answer(False, f"wanted a machine of {names[0]} to {names[-1]}; got {asked.machine[:80]!r}")
        if not 0 < asked.readings <= LONGEST:
            return None, Answer(False, f"wanted 1 to {LONGEST} readings; got {asked.readings}")
        told = f"fault {asked.kind} in {asked.machine}, from its next reading on, {asked.readings} readings long"
        return Fault(asked.kind, self._machines[asked.machine], number, asked.readings), Answer(True, told)


def _write(file: Path, content: bytes) -> None:
    """Whole, or not at all."""
    unfinished = file.with_suffix(".tmp")
    unfinished.write_bytes(content)
    os.replace(unfinished, file)
