"""Parquet files as pieces of tables, only the columns wanted.

Not inside: what the columns mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet

from streamer.connectors.files.paths import File
from streamer.connectors.files.wanted import Wanted


def tables(file: File, wanted: Wanted, rows: int) -> Iterator[tuple[pd.DataFrame, int]]:
    """Pieces of a file, at most `rows` long, each with the bytes of the file it took; the index counts rows."""
    with pyarrow.parquet.ParquetFile(file.path, memory_map=True, pre_buffer=False) as table:
        schema = table.schema_arrow
        columns = wanted.columns(file, [*_names(schema), *file.keys])
        inside = [name for name in columns if name not in file.keys]
        as_text = wanted.as_text
        bytes_a_row, first = file.size / max(1, table.metadata.num_rows), 0
        for batch in table.iter_batches(rows, columns=inside):
            found = {name: _column(batch, name) for name in inside}
            frame = pd.DataFrame(index=pd.RangeIndex(first, first + len(batch)))
            for name, column in found.items():
                kind = column.type
                if name in as_text and pyarrow.types.is_integer(kind):
                    # pandas would make 1 of a piece without holes "1", of one with holes "1.0".
                    column = column.cast(pyarrow.string())
                elif pyarrow.types.is_date(kind):
                    column = column.cast(pyarrow.timestamp("ms"))
                elif wanted.exact and (pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind)):
                    column = column.cast(pyarrow.string()).cast(pyarrow.float64())  # 13.94, not 13.9399995803833
                frame[name] = column.to_pandas().set_axis(frame.index)
            for name, value in file.keys.items():
                frame[name] = value
            first += len(batch)
            yield frame, round(bytes_a_row * len(frame))


def _names(schema: Any) -> Sequence[str]:
    """Names of columns; of those that hold structures also the fields inside, joined by dots."""
    names = []
    for field in schema:
        names.append(field.name)
        if pyarrow.types.is_struct(field.type):
            names += [f"{field.name}.{name}" for name in _names(field.type)]
    return names


def _column(batch: Any, name: str) -> Any:
    if name in batch.schema.names:
        return batch.column(name)
    head, _, rest = name.partition(".")
    while head not in batch.schema.names:
        more, _, rest = rest.partition(".")
        head = f"{head}.{more}"
    column, parts = batch.column(head), rest.split(".")
    return pc.struct_field(column, parts)
