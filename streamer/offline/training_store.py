"""Readings on disk for training: appended as they arrive, read back stream by stream in time order.

    arrived   one record after another, as the pieces came
    ordered   times, then values, each stream in one run, as the daemon would admit them

Both are mapped files without a name: they cannot outlive the processes that hold them. Memory
is needed for a piece at a time, never for all. Not inside: where readings come from, what is learned from them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.fitting.distributed import ALONE, Ranks
from streamer.connectors.files import DataSet
from streamer.core import calendar
from streamer.core.options import PipelineOptions
from streamer.core.readings import admissible
from streamer.errors import DataError
from streamer.offline.admission import LATE_IN_FILES, LATE_IN_TOPIC, OUTSIDE, Admission, Arrivals, Passed

_MOST_LATE = 0.2  # of all rows; more cannot be what the daemon will see
_NAMED = 5  # features in a message
_AT_ONCE = 1 << 18  # rows moved at once
_STEPS = 1 << 20  # the interval of a longer stream is that of its newest readings


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Rows that train nothing, and why."""

    rows: int = 0  # that came, used or not
    missing: int = 0  # a feature has no value
    not_finite: int = 0  # a feature is infinite, or too large for a 32-bit float
    duplicate: int = 0  # the stream has a reading of this time already
    late: int = 0  # the daemon would find it late
    outside: int = 0  # outside of the sessions

    @classmethod
    def of(cls, piece: DataSet, complete: NDArray[np.bool_]) -> LeftOut:
        missing = int((~complete & np.isnan(piece.values).any(axis=1)).sum())
        return cls(len(piece), missing, int((~complete).sum()) - missing)

    def __add__(self, other: LeftOut) -> LeftOut:
        return LeftOut(
            self.rows + other.rows,
            self.missing + other.missing,
            self.not_finite + other.not_finite,
            self.duplicate + other.duplicate,
            self.late + other.late,
            self.outside + other.outside,
        )


class TrainingStore:
    """One process of each machine fills it (`fills`); all then read it.

    Args:
        directory: Where the files are, with room for 20 + 8 * features bytes a reading.
        options: Of the pipeline: what the model sees of the readings, and where its windows are reset.
        ranks: The processes that train together; those of a machine share the files.

    Raises:
        DataError: No file can be made there.
    """

    def __init__(self, directory: Path, options: PipelineOptions, ranks: Ranks = ALONE) -> None:
        self.directory, self.options, self.ranks = directory, options, ranks
        self.features = features = len(options.features) + calendar.width(options.time.context)
        max_gap_ns = options.resets.max_gap_ns
        self.max_gap_s = None if max_gap_ns is None else max_gap_ns / 1e9
        self.fills = ranks.local == 0
        self.names: list[str] = []
        self.fingerprint = ""  # digest of all readings
        self.left_out = LeftOut()
        self.bars = 0  # that the readings made, complete or not
        self.absent = np.zeros(features, np.int64)  # bars that lack each feature
        self._record = np.dtype([("time", "<i8"), ("stream", "<i4"), ("values", "<f4", (features,))])
        self._counts = np.zeros(0, np.int64)  # rows of each stream
        self._rows = 0  # that the ordered file has room for
        self._breaks = np.zeros(0, np.int64)  # rows, over all streams, that come after a gap
        self._arrived, self._ordered = self._files()

    def __enter__(self) -> TrainingStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._arrived.close()
        self._ordered.close()

    def __len__(self) -> int:
        return int(self._counts.sum())

    def fill(self, pieces: Iterable[DataSet], *, topic: bool = False) -> None:
        """Take readings in and order them; on processes that do not fill it, wait for those that do.

        Rows in which a value is missing or not finite are left out, and so is a reading of a stream at a time
        at which it has one already: the first counts, as in the daemon.

        Args:
            pieces: Readings, in the order in which they came.
            topic: They come from a topic, not from files: what helps against late ones differs.

        Raises:
            DataError: The disk is full, no row was complete, or machines found different readings.
        """
        if self.fills:
            arrivals = Arrivals(self.options)
            for piece in pieces:
                self._add(piece, arrivals)
            for passed in arrivals.finish():
                self._append(passed)
            self.left_out += LeftOut(duplicate=arrivals.duplicates, late=arrivals.late, outside=arrivals.outside)
            if self.left_out.late > _MOST_LATE * self.left_out.rows:
                raise DataError(
                    f"{self.left_out.late} of {self.left_out.rows} rows are older than the newest of their stream by "
                    f"more than time.lateness ({self.options.time.lateness_ns / 1e9:g} s), and the daemon would leave "
                    f"them out: {LATE_IN_TOPIC if topic else LATE_IN_FILES}"
                )
            if not len(self):
                lacking, left = self.lacking(), self.left_out
                raise DataError(
                    f"{left.outside} of {left.rows} rows {OUTSIDE}"
                    if left.outside
                    else "no row is complete: training wants a finite number in every feature"
                    + (f"; {lacking}" if lacking and self.options.time.holds else "")
                )
            with _disk(self.directory):
                self._arrived.flush()
                self._rows = len(self)
                _make_room(self._ordered, self._rows * (8 + 4 * self.features))
            self._distribute()
            self._sort()
            self._admit()
            self.fingerprint = self._digest()
        mine = {
            "names": self.names,
            "counts": self._counts.tolist(),
            "fingerprint": self.fingerprint,
            "rows": self._rows,
            "breaks": self._breaks.tolist(),
        }
        told = [json.loads(text) for text in self.ranks.gather(json.dumps(mine if self.fills else None))]
        if len({each["fingerprint"] for each in told if each}) > 1:
            raise DataError("wanted the same readings on every machine that trains; they found different ones")
        self.names, self.fingerprint, self._rows = told[0]["names"], told[0]["fingerprint"], told[0]["rows"]
        self._counts = np.array(told[0]["counts"], np.int64)
        self._breaks = np.array(told[0]["breaks"], np.int64)

    def series(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Times and values of each stream in time order, views of the mapped file."""
        times, values = self._times(), self._values()
        ends = np.cumsum(self._counts)
        return {
            name: (times[end - count : end], values[end - count : end])
            for name, count, end in zip(self.names, self._counts.tolist(), ends.tolist(), strict=True)
            if count
        }

    def breaks(self) -> dict[str, NDArray[np.int64]]:
        """For each stream with windows that begin anew, after a gap or in another session: their first rows, rising."""
        ends = np.cumsum(self._counts)
        parts = np.split(self._breaks, np.searchsorted(self._breaks, ends[:-1]))
        begins = (ends - self._counts).tolist()
        return {name: part - begin for name, part, begin in zip(self.names, parts, begins, strict=True) if len(part)}

    def interval_s(self) -> float:
        """Usual seconds between readings of a stream, pauses apart.

        Raises:
            DataError: No two readings of a stream follow each other.
        """
        breaks = self.breaks()
        steps = []
        for name, (times, _) in self.series().items():
            step = np.diff(times[-_STEPS:])
            after = breaks.get(name, np.zeros(0, np.int64)) - max(0, len(times) - _STEPS) - 1
            steps.append(np.delete(step, after[after >= 0]))
        medians = [float(np.median(step)) for step in steps if len(step)]
        if not medians:
            raise DataError(
                "wanted a stream with readings at different times; every stream has a single one"
                if not len(self._breaks) or self.max_gap_s is None
                else f"wanted readings at most window.max_gap_s ({self.max_gap_s:g} s) apart; all are further: raise it"
            )
        return float(np.median(medians)) / 1e9

    def lacking(self) -> str:
        """Which features most incomplete bars lack, and how to have them; empty if most bars are complete."""
        if self.bars < 2 * int(self._counts.sum()) or not self.bars:
            return ""
        names = self.options.features
        shares = sorted(zip((self.absent[: len(names)] / self.bars).tolist(), names, strict=True), reverse=True)
        worst = [f"{name} is missing in {share:.0%}" for share, name in shares if share > 0.1][:_NAMED]
        return f"{', '.join(worst)} of the bars: leave it out, or raise time.gap_limit" if worst else ""

    def room(self, rows: int, features: int) -> NDArray[np.float32]:
        """An array in the place of what arrived, which has been ordered and is needed no more."""
        return np.asarray(np.memmap(self._arrived, "<f4", "r+", 0, (rows, features)))

    def _add(self, piece: DataSet, arrivals: Arrivals) -> None:
        with np.errstate(over="ignore"):
            narrow = piece.values.astype(np.float32)
        complete = admissible(narrow, self.options.may_miss) if self.options.time.holds else piece.complete
        self.left_out += LeftOut.of(piece, complete)
        self.names = list(piece.names)
        for passed in arrivals.take(piece.select(complete) if not complete.all() else piece):
            self._append(passed)

    def _append(self, passed: Passed) -> None:
        there = np.isfinite(passed.values)
        whole = there.all(axis=1)  # a bar may lack a feature
        self.bars += len(there)
        self.absent += (~there).sum(axis=0)
        records = np.empty(int(whole.sum()), self._record)
        records["time"] = passed.time_ns[whole]
        records["stream"] = passed.stream[whole]
        records["values"] = passed.values[whole]
        counts = np.bincount(records["stream"], minlength=len(self.names))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        with _disk(self.directory):
            self._arrived.write(records.tobytes())

    def _files(self) -> tuple[IO[bytes], IO[bytes]]:
        """Two files, opened by every process of this machine, then unlinked."""
        with _disk(self.directory):
            paths = [_new_file(self.directory) for _ in range(2)] if self.fills else []
            try:
                told = [json.loads(text) for text in self.ranks.gather(json.dumps([str(path) for path in paths]))]
                # Processes are numbered machine by machine: those of mine were made by the last maker up to me.
                here = [each for each in told[: self.ranks.rank + 1] if each][-1]
                one, other = (open(path, "r+b") for path in here)  # noqa: SIM115
                self.ranks.gather("opened")
            finally:
                for path in paths:
                    path.unlink(missing_ok=True)
        return one, other

    def _times(self) -> NDArray[np.int64]:
        return np.asarray(np.memmap(self._ordered, "<i8", "r+", 0, (self._rows,)))[: len(self)]

    def _values(self) -> NDArray[np.float32]:
        whole = np.memmap(self._ordered, "<f4", "r+", 8 * self._rows, (self._rows, self.features))
        return np.asarray(whole)[: len(self)]

    def _distribute(self) -> None:
        """Each record to its stream's run, in the order of arrival."""
        times, values = self._times(), self._values()
        free = np.cumsum(self._counts) - self._counts
        self._arrived.seek(0)
        while len(records := np.fromfile(self._arrived, self._record, _AT_ONCE)):
            streams = records["stream"]
            order = np.argsort(streams, kind="stable")
            counts = np.bincount(streams, minlength=len(free))
            before = np.cumsum(counts) - counts
            to = (free - before)[streams[order]] + np.arange(len(order))
            times[to] = records["time"][order]
            values[to] = records["values"][order]
            free += counts

    def _sort(self) -> None:
        """Put streams in time order that did not arrive so; equal times stay in order of arrival."""
        times, values, ends = self._times(), self._values(), np.cumsum(self._counts)
        late = [
            some.start + np.flatnonzero(np.diff(times[some.start : some.stop + 1]) < 0) for some in _rows(len(self))
        ]
        where = np.concatenate(late) + 1
        where = where[~np.isin(where, ends)]
        for stream in np.unique(np.searchsorted(ends, where, side="right")):
            run = slice(ends[stream] - self._counts[stream], ends[stream])
            order = np.argsort(times[run], kind="stable")
            times[run] = times[run][order]
            # Through the other file: the values of one stream may be more than memory holds.
            aside = self.room(len(order), self.features)
            for some in _rows(len(order)):
                aside[some] = values[run][order[some]]
            for some in _rows(len(order)):
                values[run][some] = aside[some]

    def _admit(self) -> None:
        """Keep what the daemon would admit, and find where it would reset its window buffers."""
        times, values, ends = self._times(), self._values(), np.cumsum(self._counts)
        admission, kept = Admission(self.options.resets), 0
        counts = np.zeros_like(self._counts)
        breaks = [np.zeros(0, np.int64)]
        for some in _rows(len(self)):
            stream = np.searchsorted(ends, np.arange(some.start, some.stop), side="right")
            admitted, fresh = admission.admit(stream, times[some])
            to = slice(kept, kept + len(admitted))
            if len(admitted) < len(stream) or to != some:
                times[to], values[to] = times[some][admitted], values[some][admitted]
            counts += np.bincount(stream[admitted], minlength=len(counts))
            breaks.append(kept + np.flatnonzero(fresh))
            kept = to.stop
        self.left_out += LeftOut(rows=0, duplicate=len(self) - kept)
        self._counts, self._breaks = counts, np.concatenate(breaks)

    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps([self.names, self._counts.tolist()]).encode())
        for column in (self._times(), self._values()):
            for some in _rows(len(self)):
                digest.update(column[some].tobytes())
        return digest.hexdigest()


@contextlib.contextmanager
def _disk(directory: Path) -> Iterator[None]:
    """Turn what the disk refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{directory}: training keeps its readings in a file there, and could not: {error.strerror or error}; "
            "make room, or name another directory in model.spool_directory"
        ) from None


def _new_file(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".spool-", dir=directory)
    os.close(handle)
    return Path(name)


def _make_room(file: IO[bytes], size: int) -> None:
    """Take the blocks now: on a full disk, writing to a mapped hole kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _rows(rows: int) -> Iterator[slice]:
    return (slice(i, min(i + _AT_ONCE, rows)) for i in range(0, rows, _AT_ONCE))
