"""Which columns and rows of a file are wanted, and what is said of those that are not there.

Not inside: how a file is read, what the columns mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.config import FilesConfig, RecordsConfig
from streamer.connectors.files.paths import File
from streamer.errors import DataError
from streamer.formats.nearest import nearest

_TIMES = ("timestamp", "time", "datetime", "date", "ts", "event_time", "eventtime", "@timestamp", "date_time", "t",
    "zeitstempel", "zeit", "datum", "uhrzeit")  # fmt: skip
_KEYS = ("@key", "key", "stream")  # columns that stand for the message key
_KAFKA_TIMES = ("@kafka", "timestamp")  # columns that stand for the time of a Kafka record


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns and rows of a file are wanted."""

    records: RecordsConfig
    files: FilesConfig
    where: Sequence[tuple[str, str]]  # column and value
    labels: str | None = None
    exact: bool = False  # floats of 32 bits are the decimal number that was written
    as_sent: bool = False  # zeros that mean absent stay
    everything: bool = False  # all columns, to see what there is

    @property
    def as_text(self) -> set[str]:
        """Columns that are compared as text, whatever they hold."""
        records = self.records
        names = {*records.stream, *(column for column, _ in self.where)}
        if records.stream == ("@key",):
            names |= set(self._streams())
        if records.metric is not None:
            names.add(records.metric)
        return names - {records.timestamp} | (set(self.files.timestamp) if len(self.files.timestamp) > 1 else set())

    @property
    def values(self) -> list[str]:
        """Columns of numbers: the features, or the value of any metric."""
        return list(self.records.features) if self.records.metric is None else [self.records.value]

    @property
    def names(self) -> list[str]:
        """Every column that may be read."""
        records = self.records
        some = [*self._times(), *self.values, *self._streams(), *(column for column, _ in self.where)]
        return list(dict.fromkeys([*some, *filter(None, (records.metric, records.sequence, self.labels))]))

    def may_hold(self, file: File) -> bool:
        """Whether any row of a file can meet the conditions, as far as its folders tell."""
        return all(file.keys.get(column, value) == value for column, value in self.where)

    def stream(self, found: Sequence[str]) -> list[str]:
        """Columns of the stream's name among those of a file; none: the file is one stream."""
        if self.records.stream == ("@key",):
            return [name for name in self._streams() if name in found][:1]
        return [name for name in self.records.stream if name in found]

    def time(self, found: Sequence[str]) -> list[str]:
        """The columns of the event time, usually one."""
        if self.files.timestamp:
            return list(self.files.timestamp)
        return [next((name for name in self._times() if name in found), self._times()[0])]

    def columns(self, file: File, found: Sequence[str]) -> list[str]:
        """Columns to read of those a file has.

        Raises:
            DataError: One is not there.
        """
        for column, value in self.where:
            if column not in found:
                raise DataError(
                    f"--where: wanted COLUMN=VALUE with a column of {file.path}, which has {list(found)}; "
                    f"got '{column}={value}'{did_you_mean([column], found)}"
                )
        records = self.records
        needed = [*self.time(found), *self.values, *filter(None, (records.metric, records.sequence))]
        stream = self.stream(found)
        if 0 < len(stream) < len(records.stream):
            needed += records.stream
        if missing := [name for name in dict.fromkeys(needed) if name not in found]:
            raise DataError(
                f"{file.path}: wanted columns {missing}; it has {list(found)}{self._advice(missing, found)}"
            )
        if self.labels is not None and self.labels not in found:
            raise DataError(
                f"{file.path}: --labels: wanted a column {self.labels!r}; it has {list(found)}"
                f"{did_you_mean([self.labels], found)}"
            )
        labels = [] if self.labels is None else [self.labels]
        others = found if self.everything else ()
        return list(dict.fromkeys([*needed, *stream, *(column for column, _ in self.where), *labels, *others]))

    def _times(self) -> Sequence[str]:
        if self.files.timestamp:
            return self.files.timestamp
        return _KAFKA_TIMES if self.records.timestamp[0] == "@" else (self.records.timestamp,)

    def _streams(self) -> Sequence[str]:
        """Columns that may name the stream; one that is a feature does not stand for the message key."""
        if self.records.stream != ("@key",):
            return self.records.stream
        return [name for name in _KEYS if name not in self.values]

    def _advice(self, missing: Sequence[str], found: Sequence[str]) -> str:
        if self.records.timestamp[0] == "@" and not self.files.timestamp and missing[0] == self._times()[0]:
            return (
                f": records.timestamp is {self.records.timestamp!r}, which a file has not; add a column 'timestamp' "
                "with the time of each row"
            )
        times = [name for name in found if name.lower() in _TIMES] if self.records.timestamp in missing else []
        if [name.lower() for name in times[:2]] in (["date", "time"], ["datum", "uhrzeit"], ["datum", "zeit"]):
            return f"; if {times[0]!r} and {times[1]!r} are the time, set files.timestamp: [{times[0]}, {times[1]}]"
        return did_you_mean(missing, found) or (f"; did you mean {times[0]!r}?" if times else "")


def did_you_mean(wanted: Sequence[str], found: Sequence[str]) -> str:
    """A question about names that are almost right.

    >>> did_you_mean(["vibraton"], ["time", "Vibration"])
    "; did you mean 'Vibration'?"
    >>> did_you_mean(["vibraton"], ["time", "heat"])
    ''
    """
    likely = [nearest(name.rpartition(".")[2], found, cutoff=0.7) for name in wanted]
    shown = [repr(name) for name in dict.fromkeys(likely) if name is not None]
    return f"; did you mean {' and '.join(shown)}?" if shown else ""
