"""`streamer backtest --embeddings`: where each window lies among all others, and what is near an incident.

    DIR/embeddings.parquet  stream, timestamp, score, z00, z01 ...: the embedding of every scored window
    DIR/nearest.csv         for each incident the nearest other incidents and the nearest normal window

The embedding of a window is its latent: the numbers between encoder and decoder. They are written as the backtest goes
on and read again in batches: memory does not grow with the data. Not inside: the plot of them (`plots`), the encoder
(`models`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.detector import BATCH, Detector
from streamer.config import Settings
from streamer.core.grouping import Ints
from streamer.core.keyed_state import KeyedState
from streamer.core.ordering import Ordering
from streamer.core.readings import Readings
from streamer.core.windows import Windower
from streamer.offline.backtest.evaluation import Incident, Timeline

Float32 = NDArray[np.float32]

NEIGHBOURS = 5  # other incidents named for each
_GROUP = 1 << 16  # rows written, and read, at once
_SAMPLE = 4000  # windows on the map: so many below the line, and so many above
_DISTANCES = 1 << 22  # held at once


class EmbeddingWriter:
    """Cuts windows as the daemon does and writes the latent of each; use it in a `with`.

    Args:
        path: The Parquet file.
        settings: How windows are cut.
        detector: Embeds them.
        names: Of streams by code.
    """

    def __init__(self, path: Path, settings: Settings, detector: Detector, names: Sequence[str]) -> None:
        a = detector.architecture
        self._detector, self._rows = detector, detector.rows(names)
        state = KeyedState()
        self._ordering = Ordering(state, settings.pipeline_options().resets)
        self._windower = Windower(state, a.window, settings.window.stride, a.width)
        self._streams = pa.array(names, pa.string())
        self._names = column_names(a.latent)
        types = [("stream", pa.dictionary(pa.int32(), pa.string())), ("timestamp", pa.timestamp("ns", "UTC"))]
        self._schema = pa.schema([*types, ("score", pa.float32()), *((name, pa.float32()) for name in self._names)])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[tuple[Ints, Ints, Float32, Float32]] = []

    def push(self, readings: Readings, score: Float32) -> None:
        """Take in readings of the model, and their scores by offset."""
        admitted = self._ordering.admit(readings)
        kept = admitted.readings
        inputs = self._detector.prepare(kept.values, self._rows[kept.stream])
        closed, latents = [np.empty(0, np.int64)], [np.empty((0, len(self._names)), np.float32)]
        for windows in self._windower.push(kept.stream, inputs, admitted.fresh):
            for i in range(0, len(windows), BATCH):
                some = slice(i, i + BATCH)
                scored = ~np.isnan(score[kept.offset[windows.rows[some]]])
                closed.append(windows.rows[some][scored])
                cut = windows.take(some)[scored]
                has_missing = np.isnan(cut).any((1, 2))  # only with records.missing: fill
                if has_missing.any():
                    cut[has_missing] = self._detector.fill(cut[has_missing])
                latents.append(self._detector.embed(cut))
        rows, z = np.concatenate(closed), np.concatenate(latents)
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        self._waiting.append((kept.stream[rows], kept.time_ns[rows], score[kept.offset[rows]], z[order]))
        if sum(len(part[0]) for part in self._waiting) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        stream, time_ns, score, z = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(stream, pa.int32()), self._streams),
            pa.array(time_ns, pa.timestamp("ns", "UTC")),
            pa.array(score),
            *(pa.array(column) for column in z.T),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._waiting = []

    def __enter__(self) -> EmbeddingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if kind is None and self._waiting:
            self._flush()
        self._writer.close()


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What the latents say of the incidents of a run."""

    nearest: pd.DataFrame  # nearest.csv
    points: Float32  # (n, 2) a sample of windows on the map
    score: Float32  # (n,)
    peaks: Float32  # (incidents, 2) their peak windows on the map


def column_names(width: int) -> list[str]:
    """`z00`, `z01` ...

    >>> column_names(2)
    ['z00', 'z01']
    """
    return [f"z{i:0{max(2, len(str(width - 1)))}}" for i in range(width)]


def neighbourhood(
    path: Path,
    incidents: Sequence[Incident],
    timeline: Timeline,
    score: Float32,
    order: Ints,
    names: Sequence[str],
    *,
    normal_below: float,
    window: int,
) -> Neighbourhood:
    """Neighbours of each incident and a map, from what `EmbeddingWriter` wrote.

    Args:
        path: That file.
        incidents: Of the run.
        timeline: Admitted readings.
        score: Of each reading of the data; those with one have a row in the file.
        order: Rows of the data in the order of the file.
        names: Of streams by code.
        normal_below: A window is normal if its score is below this and no incident is on.
        window: Readings in a window; windows that share readings with an incident's peak are no neighbours.
    """
    scored = order[~np.isnan(score[order])]
    place = np.full(len(score), -1)
    place[scored] = np.arange(len(scored))  # row in the file
    values = score[scored]
    normal = values < normal_below
    close = []
    for one in incidents:
        normal[_present(place[timeline.rows[timeline.part(one.stream, one.onset_ns, one.end_ns)]])] = False
        close.append(_present(place[timeline.rows[_around(timeline, one, window)]]))
    peaks = place[[one.peak_row for one in incidents]] if incidents else np.empty(0, np.int64)
    sample = np.union1d(_thinned(np.flatnonzero(values < 1.0)), _thinned(np.flatnonzero(values >= 1.0)))
    latents = _read(path, np.concatenate([peaks, sample]))
    z, z_sample = latents[: len(peaks)], latents[len(peaks) :]

    axes, center = _directions(z_sample)
    normal_at, normal_far = _nearest_normal(path, z, normal, close)
    where = [(one.stream, one.peak_row) for one in incidents]
    lines = []
    for k, one in enumerate(incidents):
        far = np.sqrt(((z - z[k]) ** 2).sum(1))
        far[k] = np.inf
        near = np.argsort(far, kind="stable")[: min(NEIGHBOURS, len(incidents) - 1)]
        found = [("incident", incidents[j].id, where[j][1], far[j]) for j in near.tolist()]
        if np.isfinite(normal_far[k]):
            found.append(("normal", None, int(scored[normal_at[k]]), normal_far[k]))
        for rank, (kind, other, row, distance) in enumerate(found, start=1):
            lines.append(
                (one.id, one.stream, one.peak_row, kind, 1 if kind == "normal" else rank, distance, other, row)
            )
    points: Float32 = ((z_sample - center) @ axes).astype(np.float32)
    rings: Float32 = ((z - center) @ axes).astype(np.float32)
    return Neighbourhood(_table(lines, timeline, score, names), points, values[sample], rings)


def _table(
    lines: Sequence[tuple[object, ...]], timeline: Timeline, score: Float32, names: Sequence[str]
) -> pd.DataFrame:
    columns = ["incident", "stream", "row", "kind", "rank", "distance", "neighbour", "neighbour_row"]
    found = pd.DataFrame(lines, columns=columns)
    by_row = np.argsort(timeline.rows)
    sorted_rows = timeline.rows[by_row]

    def at(column: str) -> Ints:
        return by_row[np.searchsorted(sorted_rows, found[column].to_numpy(np.int64))]

    own, other = at("row"), at("neighbour_row")
    known = np.array(names, object)
    return pd.DataFrame(
        {
            "incident": found["incident"],
            "stream": known[timeline.stream[own]],
            "peak": pd.to_datetime(timeline.time_ns[own], utc=True),
            "peak_score": score[timeline.rows[own]],
            "kind": found["kind"],
            "rank": found["rank"],
            "distance": found["distance"].astype(np.float32),
            "neighbour_incident": found["neighbour"],
            "neighbour_stream": known[timeline.stream[other]],
            "neighbour_time": pd.to_datetime(timeline.time_ns[other], utc=True),
            "neighbour_score": score[timeline.rows[other]],
        }
    )


def _around(timeline: Timeline, incident: Incident, window: int) -> slice:
    """Readings of the incident's stream whose windows share a reading with its peak window."""
    whole = timeline.part(incident.stream)
    peak = whole.start + int(np.flatnonzero(timeline.rows[whole] == incident.peak_row)[0])
    return slice(max(whole.start, peak - window + 1), min(whole.stop, peak + window))


def _present(places: Ints) -> Ints:
    return places[places >= 0]


def _thinned(places: Ints) -> Ints:
    return places[:: max(1, -(-len(places) // _SAMPLE))]


def _parts(path: Path, *columns: str) -> Iterator[tuple[int, Float32]]:
    """Latents `(k, latent)` in batches, each with the file's row at which it begins."""
    file = pq.ParquetFile(path)
    wanted = [name for name in file.schema_arrow.names if name.startswith("z")]
    begin = 0
    for batch in file.iter_batches(_GROUP, columns=wanted):
        z = np.stack([column.to_numpy() for column in batch.columns], 1)
        yield begin, z
        begin += len(z)


def _read(path: Path, rows: Ints) -> Float32:
    """Latents at some rows of the file, `(len(rows), latent)`."""
    found = np.empty((len(rows), 0), np.float32)
    for begin, z in _parts(path):
        if not found.shape[1]:
            found = np.empty((len(rows), z.shape[1]), np.float32)
        here = (rows >= begin) & (rows < begin + len(z))
        found[here] = z[rows[here] - begin]
    return found


def _nearest_normal(path: Path, z: Float32, normal: NDArray[np.bool_], close: Sequence[Ints]) -> tuple[Ints, Float32]:
    """Row in the file and distance of the normal window nearest to each latent; infinite where there is none."""
    at, best = np.zeros(len(z), np.int64), np.full(len(z), np.inf, np.float32)
    if not len(z):
        return at, best
    step = max(1, _DISTANCES // len(z))
    for begin, part in _parts(path):
        for i in range(0, len(part), step):
            some, first = part[i : i + step], begin + i
            far = (z**2).sum(1)[:, None] + (some**2).sum(1) - 2 * z @ some.T
            far[:, ~normal[first : first + len(some)]] = np.inf
            for k, places in enumerate(close):
                far[k, places[(places >= first) & (places < first + len(some))] - first] = np.inf
            nearest = far.argmin(1)
            distance = np.sqrt(((z - some[nearest]) ** 2).sum(1))
            distance[np.isinf(far[np.arange(len(z)), nearest])] = np.inf
            better = distance < best
            at[better], best[better] = first + nearest[better], distance[better]
    return at, best


def _directions(z: Float32) -> tuple[Float32, Float32]:
    """The two directions of greatest spread, `(latent, 2)`, and the centre, `(latent,)`."""
    center: Float32 = z.mean(0) if len(z) else np.zeros(z.shape[1], np.float32)
    axes = np.zeros((z.shape[1], 2), np.float32)
    if len(z):
        found = np.linalg.svd(z - center, full_matrices=False)[2][:2]
        # The sign of a direction is free; fixed, so that the same data give the same plot.
        largest = np.take_along_axis(found, np.abs(found).argmax(1)[:, None], 1)
        axes[:, : len(found)] = (found * np.where(largest < 0, -1, 1)).T
    return axes, center
