"""The columns of a table as readings: streams, times, numbers; every fault with the row it is in.

Not inside: how a file becomes tables, how text is a time (`dates`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streamer.connectors.files import dates
from streamer.connectors.files.csv_tables import MISSING
from streamer.connectors.files.data_set import DataSet
from streamer.connectors.files.paths import File
from streamer.connectors.files.wanted import Wanted
from streamer.core.stream_names import refusal, valid_stream_name
from streamer.errors import DataError
from streamer.formats.timestamps import NS_PER_UNIT, Times, times_of, times_of_floats, times_of_integers

_NUMERALS = {"iso8601": re.compile(r"\d{9,10}([.,]\d+)?")}  # seconds; longer ones are dates without separators
_ANY_NUMERALS = re.compile(r"\d+([.,]\d+)?")
_COMMA = re.compile(r"[+-]?[\d.]*,\d+")


class Columns:
    """Reads the tables of one file, whose index counts rows from 0; errors count them from 1.

    Args:
        file: What is read.
        wanted: What the columns are called.
        names: Codes of streams, by name; learns new ones.
        metrics: Rows of each metric; counts on.
        all_times: Reads the column of times again, from the beginning.
    """

    def __init__(
        self,
        file: File,
        wanted: Wanted,
        names: dict[str, int],
        metrics: dict[str, int],
        all_times: Callable[[], Iterable[pd.Series]],
    ) -> None:
        self._file, self._wanted, self._names, self._metrics = file, wanted, names, metrics
        self._all_times = all_times
        self._layout = dates.declared(wanted.files.date_format) if wanted.files.date_format else None
        self.one_stream = False  # as there is no column that names it

    def read(self, frame: pd.DataFrame) -> DataSet:
        """The rows that meet all conditions."""
        records = self._wanted.records
        frame = self.kept(frame)
        if records.metric is None:
            values = np.column_stack([self._numbers(frame, name) for name in records.features])
        else:
            frame, which = self._of_features(frame, records.metric)
            values = np.full((len(frame), len(records.features)), np.nan)
            values[np.arange(len(frame)), which] = self._numbers(frame, records.value)
        if not self._wanted.as_sent:
            for name in records.zero_is_missing:
                column = values[:, records.features.index(name)]
                column[column == 0] = np.nan
        times, stream = self.times(frame), self._streams(frame)
        return DataSet(
            list(self._names),
            stream,
            times,
            values,
            None if self._wanted.labels is None else self._labels(frame[self._wanted.labels]),
            None if records.sequence is None else self._sequence(frame[records.sequence]),
        )

    def kept(self, frame: pd.DataFrame) -> pd.DataFrame:
        for column, value in self._wanted.where:
            frame = frame[frame[column].astype(str) == value]
        return frame

    def times(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Event times in ns since 1970 UTC, those that the daemon reads from the same values in a record.

        Times without a zone are UTC. Numbers count seconds if `records.timestamp_unit` is that of text.
        """
        column = joined(frame, self._wanted.time(list(frame.columns)))
        unit = self._wanted.records.timestamp_unit
        if column.isna().any():
            words = f"wanted a time in every row of {column.name!r}; {int(column.isna().sum())} have none"
            self._fault(words, column.index, column.isna())
        counted = "s" if unit == "iso8601" else unit
        form, advice = f"{counted} since 1970, a time", ": is records.timestamp_unit right?"
        if self._layout is None and pd.api.types.is_object_dtype(column):
            if self._wanted.records.text_numbers and unit != "iso8601":
                column = column.map(_number_in)
            kinds = set(map(type, column))
            if kinds <= {int, float}:
                times, bad = times_of(column.tolist(), counted)
                return self._checked(column, times, bad, form, advice)
            if kinds - {str}:
                column = column.map(str)
        elif pd.api.types.is_bool_dtype(column) or isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(str)
        if pd.api.types.is_datetime64_any_dtype(column):
            times, bad = _times_of_stamps(column)
            if unit not in ("iso8601", "ns") and (times % 1000).any():
                # A record has them as floats of the unit.
                times, bad = times_of_floats(times / NS_PER_UNIT[unit], unit)
        elif self._layout is not None:
            times, bad = self._layout.parse(column)
            form, advice = self._layout.shown, "; set files.date_format" * (self._layout is not dates.ISO)
        elif pd.api.types.is_integer_dtype(column) and unit == "iso8601" and dates.compact(column.to_numpy(np.int64)):
            self._layout = dates.COMPACT
            times, bad = self._layout.parse(column)
        elif pd.api.types.is_integer_dtype(column):
            times, bad = times_of_integers(column.to_numpy(np.int64), counted)
        elif pd.api.types.is_float_dtype(column):
            times, bad = times_of_floats(column.to_numpy(np.float64), counted)
        elif len(column) and _in_numerals(column, unit):
            texts = [text.replace(",", ".") for text in column]
            times, bad = times_of([float(text) if "." in text else int(text) for text in texts], counted)
        elif len(column):
            where = f"{self._file.path}: {column.name!r}"
            self._layout = dates.find(column, self._all_times, where)
            times, bad = self._layout.parse(column)
            form = self._layout.shown
            advice = ": if it is a time, set files.date_format" if self._layout is dates.ISO else ""
        else:
            return np.empty(0, np.int64)
        return self._checked(column, times, bad, form, advice)

    def _checked(
        self, column: pd.Series, times: NDArray[np.int64], bad: NDArray[np.bool_], form: str, advice: str
    ) -> NDArray[np.int64]:
        if bad.any():
            wrong = str(column[bad].iloc[0])
            self._fault(
                f"wanted times in {column.name!r}; {wrong!r} is not {form} between 1970 and 2200 "
                f"({int(bad.sum())} of {len(column)} rows){advice}",
                column.index,
                bad,
            )
        return times

    def _of_features(self, frame: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        """Rows whose metric is a feature, and which; the others are counted."""
        column = frame[metric]
        if column.isna().any():
            self._fault(
                f"wanted the name of a metric in every row of {metric!r}; got none", column.index, column.isna()
            )
        codes, kinds = pd.factorize(column)
        for name, rows in zip(map(str, kinds), np.bincount(codes, minlength=len(kinds)).tolist(), strict=True):
            self._metrics[name] = self._metrics.get(name, 0) + rows
        features = {name: i for i, name in enumerate(self._wanted.records.features)}
        which = np.array([features.get(str(name), -1) for name in kinds], np.int64)[codes]
        return frame[which >= 0], which[which >= 0]

    def _numbers(self, frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column):
            return np.asarray(column.to_numpy(np.float64, na_value=np.nan), np.float64)
        there = np.array(column.notna(), np.bool_)
        strict = bool(frame.attrs.get("strict"))  # in JSON, a number in quotes is none, unless it is said to be
        if strict and self._wanted.records.text_numbers:
            column = column.map(_number_in)
        if not strict:
            there &= ~column.astype("str").str.strip().isin((*MISSING, *self._wanted.files.missing)).to_numpy(np.bool_)
        numbers, bad = np.full(len(column), np.nan), np.zeros(len(column), np.bool_)
        thousands, decimal = frame.attrs.get("thousands"), frame.attrs.get("decimal", ".")
        for i in np.flatnonzero(there):
            value: Any = column.iat[int(i)]
            if isinstance(value, str):
                if thousands:
                    value = value.replace(thousands, "")
                value = value.replace(decimal, ".")
            try:
                bad[i] = strict and isinstance(value, (bool, str))
                numbers[i] = np.nan if bad[i] else float(value)
            except (ValueError, TypeError):
                bad[i] = True
        if bad.any():
            wrong = column[bad].iloc[0]
            advice = f"; if it stands for no value, set files.missing: [{wrong!r}]" * (not re.search(r"\d", str(wrong)))
            advice += '; for a decimal comma set files.decimal: ","' * bool(_COMMA.fullmatch(str(wrong)))
            advice += '; for thousands set apart set files.thousands: "." and files.decimal: ","' * bool(
                re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", str(wrong))
            )
            self._fault(f"wanted numbers in {name!r}; got {wrong!r} ({int(bad.sum())} rows){advice}", column.index, bad)
        return numbers

    def _streams(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Codes of the rows' streams."""
        columns = self._wanted.stream(list(frame.columns))
        self.one_stream = not columns
        if not len(frame):
            return np.empty(0, np.int64)
        if not columns:
            if not valid_stream_name(self._file.name):
                raise DataError(f"{self._file.path}: {refusal(self._file.name)}")
            return np.full(len(frame), self._names.setdefault(self._file.name, len(self._names)), np.int64)
        for name in columns:
            absent = frame[name].isna()
            if absent.any():
                words = f"wanted a stream in every row of {name!r}; {int(absent.sum())} have none"
                self._fault(words, frame.index, absent)
        names = frame[columns[0]].astype(str)
        for name in columns[1:]:
            names = names + "/" + frame[name].astype(str)
        codes, kinds = pd.factorize(names)
        for number, name in enumerate(map(str, kinds)):
            if name not in self._names and not valid_stream_name(name):
                self._fault(refusal(name), frame.index, codes == number)
        return np.array([self._names.setdefault(str(name), len(self._names)) for name in kinds], np.int64)[codes]

    def _sequence(self, column: pd.Series) -> NDArray[np.int64]:
        numbers = pd.to_numeric(column, errors="coerce")
        whole = numbers.notna() & (numbers % 1 == 0) & (numbers.abs() < 2**63)
        if not whole.all():
            wrong = column[~whole].iloc[0]
            words = f"wanted a whole number in every row of {column.name!r} (records.sequence); got {wrong!r}"
            self._fault(words, column.index, ~whole)
        return numbers.to_numpy(np.int64)

    def _labels(self, column: pd.Series) -> NDArray[np.bool_]:
        # A column that rows are chosen by, too, is text as it stands in the file.
        column = column.replace({"0": 0, "0.0": 0, "False": 0, "1": 1, "1.0": 1, "True": 1})
        odd = ~column.isin([0, 1])
        if odd.any():
            self._fault(
                f"--labels: wanted 0 or 1 in every row of {str(column.name)!r}; {int(odd.sum())} have others, "
                f"such as {column[odd].tolist()[0]!r}",
                column.index,
                odd,
            )
        return column.to_numpy(np.bool_)

    def _fault(self, words: str, index: pd.Index, bad: pd.Series | NDArray[np.bool_]) -> NoReturn:
        row = int(index[int(np.argmax(np.asarray(bad)))]) + 1
        raise DataError(f"{self._file.path}: row {row}: {words}")


def joined(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """One column, or the text of several joined by a space; missing where one of them is."""
    if len(columns) == 1:
        return frame[columns[0]]
    parts = [frame[name].astype("str") for name in columns]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + " " + part
    return whole.where(frame[list(columns)].notna().all(axis=1)).rename(" ".join(columns))


def _number_in(value: Any) -> Any:
    """The number that text of a message says, if it says one, as from a topic with `records.text_numbers`."""
    try:
        return msgspec.convert(value, int | float, strict=False) if type(value) is str else value
    except msgspec.ValidationError:
        return value


def _in_numerals(column: pd.Series, unit: str) -> bool:
    """Whether a column of text, such as one whose decimal point is not that of the file, holds numbers."""
    if pd.api.types.is_object_dtype(column):
        return False  # in JSON, a number in quotes is none
    pattern = _NUMERALS.get(unit, _ANY_NUMERALS)
    return all(map(pattern.fullmatch, column.tolist()))


def _times_of_stamps(column: pd.Series) -> Times:
    """Times of a column that holds times already."""
    stamps = pd.to_datetime(column, utc=True)
    outside = ((stamps.dt.year < 1970) | (stamps.dt.year >= 2200)).to_numpy(np.bool_)
    if outside.any():
        return np.zeros(len(column), np.int64), outside
    return np.asarray(stamps.dt.as_unit("ns").astype(np.int64), np.int64), outside
