"""CSV and TSV messages: one row or several, with the names of the columns configured or in the first line.

An empty cell is a value that is absent. Not inside: files (`connectors.files`), what the columns mean (`decoding`).
"""

from __future__ import annotations

import csv
import io
from typing import Any

from streamer.formats.decoding import Parser
from streamer.formats.interface import FormatOptions
from streamer.formats.rejects import MALFORMED, Refused
from streamer.formats.shapes import fields_of

_MOST_COLUMNS = 10_000


class DelimitedParser(Parser):
    """Rows of text with a delimiter."""

    lax = True
    several = True

    def __init__(self, options: FormatOptions) -> None:
        super().__init__(options)
        self._delimiter = options.delimiter or ("\t" if options.format == "tsv" else ",")
        self._columns = options.columns
        self._nested = [name for name in fields_of(options) if "." in name]

    def document(self, value: bytes) -> Any:
        """A dict for every row; a row that has not as many cells as there are columns stays a list."""
        text = io.StringIO(value.decode("utf-8-sig"), newline="")
        try:
            found = csv.reader(text, delimiter=self._delimiter, skipinitialspace=True, strict=True)
            rows = [row for row in found if row]
        except csv.Error as error:
            raise Refused(MALFORMED, f"not rows of text with delimiter {self._delimiter!r}: {error}") from None
        columns = self._columns
        if columns is None and rows:
            columns, rows = tuple(rows[0]), rows[1:]
        if columns is not None and len(columns) > _MOST_COLUMNS:
            raise Refused(MALFORMED, f"at most {_MOST_COLUMNS} columns; got {len(columns)}")
        return [self._reading(columns or (), row) for row in rows]

    def explain(self, element: Any) -> str | None:
        if isinstance(element, list):
            said = f" ({', '.join(self._columns[:12])})" if self._columns else ""
            wanted = f"{len(self._columns)} columns{said}" if self._columns else "as many cells as the first line has"
            return f"a row has {wanted}; got {len(element)} cells with delimiter {self._delimiter!r}"
        return super().explain(element)

    def _reading(self, columns: tuple[str, ...], row: list[str]) -> Any:
        if len(row) != len(columns):
            return row
        reading: dict[str, Any] = {name: cell for name, cell in zip(columns, row, strict=True) if cell}
        for name in self._nested:
            if name in reading:
                inside = reading
                *heads, last = name.split(".")
                for head in heads:
                    if not isinstance(inside.get(head), dict):
                        inside[head] = {}  # where it is a column, too, no field is made of that
                    inside = inside[head]
                inside[last] = reading[name]
        return reading
