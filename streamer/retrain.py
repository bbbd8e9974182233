"""`streamer retrain`: fit a detector on files or on a topic's past, publish it as the current bundle.

Not inside: the fitting itself (`models`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from models import detector
from models.detector import Detector
from models.normal import AlertBudget
from models.registry import Registry
from models.training import EpochReport, TrainingOptions
from streamer import datafiles
from streamer.config import Settings
from streamer.datafiles import DataSet
from streamer.errors import ConfigError, DataError
from streamer.progress import progress

CURRENT = "current"  # in place of a version: the one in use

log = logging.getLogger(__name__)


def retrain_from_files(
    settings: Settings,
    paths: Sequence[Path],
    where: Sequence[str] = (),
    *,
    promote: bool = True,
    warm_start: str | None = None,
) -> str:
    """Train on files; returns the new bundle's version.

    Raises:
        DataError: A file cannot be used.
        TrainingError: There is too little in them.
        ArtifactError: The registry cannot be written, or holds no bundle for a warm start.
        ConfigError: The bundle of a warm start is of another make than the settings want.
    """
    return retrain(settings, datafiles.load(paths, settings.records, where), promote=promote, warm_start=warm_start)


def retrain(
    settings: Settings,
    data: DataSet,
    *,
    promote: bool = True,
    warm_start: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """Train on readings and publish; returns the version.

    Args:
        settings: Say what to train and where to publish.
        data: The readings.
        promote: Make the new bundle the current one.
        warm_start: Version of the bundle whose weights training begins with, or
            `CURRENT`; None begins with random ones.
        now: Clock for the bundle's version.
    """
    registry = Registry(settings.model.directory)
    start, start_version = None, None
    if warm_start is not None:
        start, manifest = registry.load(None if warm_start == CURRENT else warm_start)
        start_version = str(manifest["version"])
        _require_same(settings, start, start_version)
    complete = data.complete
    if not complete.all():
        log.warning("%d of %d rows hold values that are no numbers and are left out", (~complete).sum(), len(data))
        data = data.select(complete)
    if not len(data):
        raise DataError("no row is complete: every feature must be a finite number")
    series = data.by_stream()
    interval = datafiles.interval_s([times for times, _ in series.values()])
    log.info("training on %d readings of %d streams, one every %g s", len(data), len(series), interval)
    # The layers are small: two threads spend more on waiting for each other than they save.
    torch.set_num_threads(settings.model.threads)
    model, alerting = settings.model, settings.alerting
    options = TrainingOptions(
        epochs=model.epochs,
        steps_per_epoch=model.steps_per_epoch,
        patience=model.patience,
        batch_size=model.batch_size,
        learning_rate=model.learning_rate,
        seed=model.seed,
        strength=model.strength,
        target_activation=model.target_activation,
    )
    with progress("training", model.epochs) as advance:

        def on_epoch(report: EpochReport) -> None:
            advance(1, f"held-out loss {report.held_out_loss:.4f}{' *' if report.best else ''}")

        fitted = detector.fit(
            {name: values for name, (_, values) in series.items()},
            settings.records.features,
            settings.architecture(),
            interval_s=interval,
            options=options,
            budget=AlertBudget(alerting.budget_per_stream_per_week, alerting.open_after, alerting.open_within),
            holdout=model.holdout,
            on_epoch=on_epoch,
            start_from=start,
        )
    if start_version is not None:
        fitted = dataclasses.replace(fitted, report={**fitted.report, "warm_start": start_version})
    version = registry.publish(fitted, created=now(), fingerprint=_fingerprint(data), promote=promote)
    report = fitted.report
    log.info(
        "bundle %s: %d epochs, held-out loss %.4f; alert line for %g false incidents per stream and week, "
        "fitted on %d clusters in %.1f stream-days%s",
        version,
        report["epochs"],
        report["held_out_loss"],
        report["budget_per_stream_per_week"],
        report["tail"]["clusters"],
        report["tail"]["stream_days"],
        "" if promote else "; not promoted",
    )
    return version


def _require_same(settings: Settings, start: Detector, version: str) -> None:
    """Weights fit only the network they were made for: say so before the data is prepared."""
    different = settings.architecture().differences(start.architecture)
    if start.features != settings.records.features:
        different.append(f"records.features {list(settings.records.features)}, not {list(start.features)}")
    if different:
        raise ConfigError(
            f"--warm-start: wanted a bundle made like the settings say; {version} is not: {'; '.join(different)}; "
            "change the settings back, or leave --warm-start out"
        )


def _fingerprint(data: DataSet) -> str:
    digest = hashlib.sha256("\0".join(data.names).encode())
    for column in (data.stream, data.time_ns, data.values):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
