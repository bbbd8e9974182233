"""From readings to a detector in one call; `retrain` takes the two steps one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from models.fitting.calibration import calibrate
from models.fitting.learning import learn
from models.fitting.training import OnEpoch, TrainingOptions
from models.network.architecture import Architecture
from models.scoring.alert_line import AlertPolicy

Float32 = NDArray[np.float32]
Rows = NDArray[np.int64]


def fit(
    series: Mapping[str, Float32],
    features: Sequence[str],
    architecture: Architecture,
    *,
    interval_s: float,
    context: Sequence[str] = (),
    options: TrainingOptions | None = None,
    policy: AlertPolicy | None = None,
    holdout: float = 0.15,
    breaks: Mapping[str, Rows] | None = None,
    on_epoch: OnEpoch = lambda report: None,
    start_from: Detector | None = None,
) -> Detector:
    """Fit scaler, autoencoder and calibration on unlabelled readings: `learn`, then `calibrate`.

    Args:
        series: Readings of each stream in time order, `(rows, features)`, raw units; then the columns of the context,
            if there is one, in [-1, 1].
        features: Names of the columns.
        architecture: The network; `architecture.features` must be `len(features)`.
        interval_s: Typical seconds between readings.
        context: Names of what the `architecture.context` columns after the features hold, for whoever has to make
            them again; one name may stand for several columns.
        options: Training.
        policy: Sets the alert line.
        holdout: Newest part of each stream that trains nothing: it stops the training
            early and calibrates the line.
        breaks: For each stream the rows at which it starts over, rising, above 0: no window
            straddles one. A stream without an entry is unbroken.
        on_epoch: Called after every epoch.
        start_from: Training begins with this detector's weights (warm start). Scaler and
            calibration are fitted on these readings alone.

    Raises:
        ShapeError: Wrong width, values that are not finite, breaks that do not rise or lie outside
            the stream, or `start_from` has another architecture or other features.
        TrainingError: No stream is long enough; says how long the longest is.
    """
    learned = learn(
        series,
        features,
        architecture,
        context=context,
        options=options,
        holdout=holdout,
        breaks=breaks,
        on_epoch=on_epoch,
        start_from=start_from,
    )
    return calibrate(learned, interval_s=interval_s, policy=policy)
