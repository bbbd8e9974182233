"""`streamer backtest --reconstruction`: the denoised signal, as reconstructed by the model.

    DIR/rebuilt.parquet  stream, timestamp and every feature in raw units; a row for each reading, in the data's order

Not inside: which window gives the value of which reading (`reconstruction`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.detector import Detector
from streamer.connectors.files import DataSet
from streamer.core.grouping import Ints
from streamer.core.resets import Resets
from streamer.offline.backtest.evaluation import Timeline
from streamer.offline.backtest.reconstruction import reconstruct, run_begins
from streamer.offline.progress import progress

Float32 = NDArray[np.float32]

_GROUP = 1 << 16  # rows written at once


def write_reconstruction(
    path: Path, detector: Detector, data: DataSet, timeline: Timeline, features: Sequence[str], resets: Resets
) -> None:
    """Write the file; null where a reading has no expected value.

    Values are kept in a temporary file until they can be written in the data's order: memory does not grow.

    Args:
        path: The Parquet file.
        detector: Reconstructs.
        data: Readings.
        timeline: Those that were admitted.
        features: Names.
        resets: What resets a stream's window.
    """
    table_rows = detector.rows(data.names)

    def fetch(places: Ints) -> tuple[Float32, Ints]:
        return data.values[timeline.rows[places]].astype(np.float32), table_rows[timeline.stream[places]]

    with tempfile.TemporaryFile(dir=path.parent) as aside, progress("reconstructing", len(timeline.rows)) as advance:
        shape = (max(1, len(data)), len(features))
        values: np.memmap[tuple[int, int], np.dtype[np.float32]] = np.memmap(aside, np.float32, "w+", shape=shape)
        for i in range(0, len(values), _GROUP):
            values[i : i + _GROUP] = np.nan
        begins = run_begins(timeline.stream, timeline.time_ns, resets)
        for places, expected, _ in reconstruct(detector, fetch, begins, len(timeline.rows)):
            values[timeline.rows[places]] = expected
            advance(len(places))
        _write(path, data, values, features)


def _write(path: Path, data: DataSet, values: Float32, features: Sequence[str]) -> None:
    types = [("stream", pa.dictionary(pa.int32(), pa.string())), ("timestamp", pa.timestamp("ns", "UTC"))]
    schema = pa.schema([*types, *((name, pa.float32()) for name in features)])
    streams = pa.array(data.names, pa.string())
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for i in range(0, len(data), _GROUP):
            some = slice(i, i + _GROUP)
            columns = [
                pa.DictionaryArray.from_arrays(pa.array(data.stream[some], pa.int32()), streams),
                pa.array(data.time_ns[some], pa.timestamp("ns", "UTC")),
                *(pa.array(np.ascontiguousarray(column), from_pandas=True) for column in values[some].T),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
