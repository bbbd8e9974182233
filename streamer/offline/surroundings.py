"""What a machine must have for the daemon: room on disk and in memory, secrets that are secret, a clock that is right.

Looks only, changes nothing. Not inside: the broker (`connectors.kafka.probe`), whether state can be written
(`runtime.state`), printing (`cli`).
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from streamer.config import Settings
from streamer.config.secrets import SecretFile

GENERATIONS = 3  # of snapshots on the disk at a time: the newest, the one before, the one being written
SPARE_BYTES = 64 << 20
MOST_SKEW_S = 5.0
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `ok` is None for what should be seen to, but stops nothing."""

    ok: bool | None
    said: str


def secrets(settings: Settings) -> Iterator[Finding]:
    """Files with secrets, state and bundles that others on this machine can read."""
    shown = [f"{what} {path}" for what, path in _secret_files(settings) if _others_read(path)]
    if shown:
        yield Finding(None, f"readable by all users of this machine: {', '.join(shown)}; chmod o= them")
    for what, directory in (("state", settings.state.directory), ("bundles", settings.model.directory)):
        if directory is not None and (open_ := next(filter(_others_read, _files(directory)), None)):
            yield Finding(
                None,
                f"{what} in {directory} can be read by all users of this machine, {open_.name} for one; "
                f"chmod -R go= {directory}",
            )


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    files = {
        "kafka": ("ssl_keyfile", "oauth_token_file"),
        "http": ("tls_keyfile", "auth_file"),
    }
    for section, keys in files.items():
        for key in keys:
            path = getattr(getattr(settings, section), key)
            if path is not None:
                yield f"{section}.{key}", path
    for section in type(settings).model_fields:
        for key, value in getattr(settings, section):
            if isinstance(value, SecretStr) and isinstance(value, SecretFile):
                yield f"{section}.{key}", value.path
    for name, sink in settings.sinks.all():
        yield from (
            (f"{key} of sink {name}", value.path)
            for key, value in sink
            if isinstance(value, SecretStr) and isinstance(value, SecretFile)
        )


def _files(directory: Path) -> Iterator[Path]:
    for where, _, names in os.walk(directory):
        yield from (Path(where) / name for name in names)


def _others_read(path: Path) -> bool:
    """Whether others may read a file, and all directories it is in let them."""
    try:
        if not path.stat().st_mode & stat.S_IROTH:
            return False
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    except OSError:
        return False


def disk(directory: Path, *, streams: int, bytes_per_stream: int) -> Finding:
    """Whether there is room for snapshots.

    The bound: three generations of all streams known to the bundle, or of what lies there now if that is more, and
    64 MiB; what lies there counts as room.

    Args:
        directory: Of the state; need not exist.
        streams: How many are expected.
        bytes_per_stream: Of the state of one.
    """
    here = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    lies = sum(path.lstat().st_size for path in _files(directory) if path.exists())
    wanted = GENERATIONS * max(streams * bytes_per_stream, lies // 2) + SPARE_BYTES
    about = os.statvfs(here)
    free = about.f_bavail * about.f_frsize
    said = f"{_mib(free)} free for snapshots in {directory}"
    if free + lies < wanted:
        return Finding(
            None,
            f"{said}, wanted {_mib(wanted)}: {GENERATIONS} snapshots of {streams} stream(s), and {_mib(SPARE_BYTES)}; "
            "where it does not do, checkpoints fail and nothing is committed",
        )
    if about.f_files and about.f_favail < 1000:
        return Finding(None, f"{said}, but only {about.f_favail} inodes; every snapshot is a file")
    return Finding(True, said)


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


def unpacking(settings: Settings, topic: Mapping[str, str]) -> Iterator[Finding]:
    """What a producer may do to a client that unpacks without a bound; see docs/decisions/0017-memory.md.

    Args:
        settings: Name the client and the memory.
        topic: Settings of the input topic, as the broker tells them.
    """
    if settings.kafka.client != "confluent":
        return
    name, most = settings.kafka.topic, settings.limits.answer_bytes
    if topic.get("compression.type") != "uncompressed":
        yield Finding(
            None,
            f"client confluent unpacks what producers of {name} have compressed without a bound: a record of 1 MB may "
            "take all memory, again and again; unless all of them are trusted set kafka.client: kafka-python, or "
            "compression.type=uncompressed on the topic",
        )
    if (largest := int(topic.get("max.message.bytes") or 0)) > most:
        yield Finding(
            None,
            f"topic {name} takes batches of {largest} bytes (max.message.bytes); client confluent reads none above "
            f"{most}, and nothing behind it: lower it, raise limits.memory_mb, or set kafka.client: kafka-python",
        )


def clock(now_s: float, newest_record_ms: int | None) -> Finding:
    """Whether this machine's clock can be right.

    Scores and alerts do not depend on it: event times are compared with the broker's. What does is said.

    Args:
        now_s: What it shows, seconds since 1970.
        newest_record_ms: When the broker, or the producer, stamped the newest record seen; None: not known.
    """
    wrong = (
        "metrics of age and delay, and rules on them, `retrain --since`, and logins by token or certificate go by it; "
        "scores do not"
    )
    if newest_record_ms is not None and newest_record_ms / 1000 - now_s > MOST_SKEW_S:
        ahead_s = newest_record_ms / 1000 - now_s
        return Finding(
            None,
            f"the newest record was stamped {ahead_s:.0f} s ahead of this machine's clock: this clock, the broker's or "
            f"the producer's is wrong; {wrong}",
        )
    synchronised = _synchronised()
    if synchronised is False:
        return Finding(None, f"this machine's clock is not synchronised (NTP); {wrong}")
    return Finding(True, "clock is synchronised" if synchronised else "clock is not behind the newest record")


class _Timex(ctypes.Structure):
    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 508))  # more than any platform's


def _synchronised() -> bool | None:
    """Whether the kernel's clock is kept by NTP or the like; None where it does not say."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(_Timex())))  # modes 0: reads only
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED
