"""The expected value of each reading: the causal reconstruction, which is also the denoised signal.

A reading belongs to a patch of its stream; its expected value comes from the window that ends with that patch, so it
is known as soon as the patch is full. Readings of a stream's first window, except for its newest patch, and of an
incomplete last patch have none. Windows are reconstructed in batches, across streams. Not inside: scores, files, plots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from models.detector import Detector
from streamer.core.grouping import Ints
from streamer.core.resets import Resets
from streamer.offline.admission import Admission

Float32 = NDArray[np.float32]
Fetch = Callable[[Ints], tuple[Float32, Ints]]

_BATCH = 1024  # windows reconstructed at once ...
_PLACES = 1 << 18  # readings ordered at once
_VALUES = 1 << 22  # ... or fewer where they are wide


def expected_series(
    detector: Detector, values: Float32, row: int, begins: Ints | None = None
) -> tuple[Float32, Float32]:
    """Expected value of each reading of one stream.

    Args:
        detector: Reconstructs the windows.
        values: Readings in time order, raw units, `(n, features + context)`.
        row: Table row of the stream.
        begins: From `run_begins`; None: windows reach across every gap.

    Returns:
        Expected values `(n, features)` in raw units, and the squared error in model
        units `(n, features)`; NaN where there is none.
    """
    expected, error = np.full((2, len(values), len(detector.features)), np.nan, np.float32)

    def fetch(places: Ints) -> tuple[Float32, Ints]:
        return values[places].astype(np.float32), np.full(len(places), row)

    begins = np.array([0]) if begins is None else begins
    for places, reconstruction, wrong in reconstruct(detector, fetch, begins, len(values)):
        expected[places], error[places] = reconstruction, wrong
    return expected, error


def reconstruct(detector: Detector, fetch: Fetch, begins: Ints, n: int) -> Iterator[tuple[Ints, Float32, Float32]]:
    """Expected values of `n` readings, one run after another; a window never spans two runs.

    Args:
        detector: Reconstructs the windows.
        fetch: Gives the raw readings at some places, `(k, features + context)`, and the table row of each, `(k,)`.
        begins: Place of each run's first reading, rising; the first is 0.
        n: Readings in all.

    Yields:
        Places `(k,)`, expected values `(k, features)` in raw units, squared error in model units `(k, features)`;
        NaN where a value is missing: its expected value is what it was filled with.
    """
    a = detector.architecture
    ends = window_ends(begins, n, a.window, a.patch)
    batch = min(_BATCH, max(8, _VALUES // (a.window * a.width)))
    for i in range(0, len(ends), batch):
        some = ends[i : i + batch, None]
        places, inverse = np.unique(some + np.arange(-a.window, 0), return_inverse=True)
        values, rows = fetch(places)
        windows = detector.prepare(values, rows)[inverse].reshape(len(some), a.window, a.width)
        has_missing = np.isnan(windows).any((1, 2))
        complete = windows
        if has_missing.any():
            complete = windows.copy()
            complete[has_missing] = detector.fill(windows[has_missing])
        with torch.inference_mode():
            reconstruction = detector.network(torch.from_numpy(complete)).numpy()
        newest = (some + np.arange(-a.patch, 0)).ravel()
        patches = reconstruction[:, -a.patch :].reshape(-1, a.features)
        wrong = (patches - detector.measured(windows[:, -a.patch :]).reshape(-1, a.features)) ** 2
        yield newest, detector.scaler.inverse(patches, rows[np.searchsorted(places, newest)]), wrong


def run_begins(stream: Ints, time_ns: Ints, resets: Resets) -> Ints:
    """Places at which the window is reset, the first included: another stream, a gap, another session.

    Args:
        stream: Of admitted readings, stream after stream.
        time_ns: Rising in each stream.
        resets: What resets the window of a stream.
    """
    admission = Admission(resets)
    pieces = [slice(i, i + _PLACES) for i in range(0, len(stream), _PLACES)]
    after_gap = [admission.admit(stream[some], time_ns[some])[1] for some in pieces]
    begins: Ints = np.flatnonzero(np.concatenate([[False], *after_gap])[1:] | (np.diff(stream, prepend=-1) != 0))
    return begins


def window_ends(begins: Ints, n: int, window: int, patch: int) -> Ints:
    """Ends, one past the newest reading, of the windows that end with a patch of their run.

    >>> window_ends(np.array([0, 10]), 25, window=8, patch=4).tolist()
    [8, 18, 22]
    """
    count = np.maximum(0, (np.diff(begins, append=n) - window) // patch + 1)
    rank = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    ends: Ints = np.repeat(begins + window, count) + patch * rank
    return ends
