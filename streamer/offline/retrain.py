"""`streamer retrain`: fit a detector on files or on a topic's past, publish it as the current bundle.

Not inside: the fitting itself (`models`), how files are read (`connectors.files`), how readings are ordered and where
windows may be cut (`training_store`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from models.detector import Detector
from models.fitting.calibration import calibrate
from models.fitting.distributed import ALONE, Ranks, join
from models.fitting.learning import Learned, learn
from models.fitting.training import EpochReport, TrainingOptions
from models.store.registry import Registry
from streamer.config import Settings
from streamer.connectors import files as datafiles
from streamer.connectors.files import DataSet
from streamer.errors import ConfigError
from streamer.offline.admission import MOST_OUTSIDE
from streamer.offline.progress import progress
from streamer.offline.training_store import LeftOut, TrainingStore

_NAMED = 5  # streams that a message names at most
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
    """Train on files; the rest is as in `retrain`.

    Raises:
        DataError: A file cannot be used.
    """
    return retrain(settings, _read(settings, paths, where), promote=promote, warm_start=warm_start)


def retrain(
    settings: Settings,
    data: DataSet | Iterable[DataSet],
    *,
    promote: bool = True,
    warm_start: str | None = None,
    trained_on: Callable[[], Mapping[str, Any] | None] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """Train on readings and publish.

    Args:
        settings: Say what to train and where to publish.
        data: The readings, or pieces of them; pieces are taken one at a time, and only by one
            process of each machine.
        promote: Make the new bundle the current one.
        warm_start: Version of the bundle whose weights training begins with, or
            `CURRENT`; None begins with random ones.
        trained_on: Asked when `data` is read: up to where it reaches in its topic, for the manifest; None: of files.
        now: Clock for the bundle's version.

    Returns:
        The version; empty if `torchrun` started this process to help the one that publishes.

    Raises:
        DataError: No reading can be used, or there is no room on disk.
        TrainingError: There are too few.
        ArtifactError: The registry cannot be written, or holds no bundle for a warm start.
        ConfigError: The bundle of a warm start is of another make than the settings want, or
            there is no such device.
    """
    model = settings.model
    registry = Registry(model.directory)
    start, start_version = None, None
    if warm_start is not None:
        start, manifest = registry.load(None if warm_start == CURRENT else warm_start)
        start_version = str(manifest["version"])
        _require_same(settings, start, start_version)
    # The layers are small: two threads spend more on waiting for each other than they save.
    torch.set_num_threads(model.threads)
    ranks = join()
    ranks.check(model.batch_size)
    device = training_device(model.device, ranks)
    if device != "cpu":
        torch.cuda.set_device(device)
    with TrainingStore(model.spool_directory or model.directory, settings.pipeline_options(), ranks) as store:
        store.fill([data] if isinstance(data, DataSet) else data, topic=trained_on is not None)
        interval = store.interval_s()
        if ranks.first:
            _say_left_out(store.left_out, settings)
            if settings.time.active and (lacking := store.lacking()):
                log.warning("most bars are incomplete and left out of training: %s", lacking)
            log.info(
                "training on %d readings of %s, one every %g s%s%s%s",
                len(store),
                _count(len(store.series()), "stream"),
                interval,
                _say_breaks(store, settings),
                "" if device == "cpu" else f", on {device}",
                "" if ranks.size == 1 else f", {ranks.size} processes",
            )
        learned = _learn(settings, store, start, device, ranks)
        ranks.leave()
        if not ranks.first:
            return ""
        _say_too_short(learned, store)
        fitted = calibrate(learned, interval_s=interval, policy=settings.pipeline_options().policy)
    if start_version is not None:
        fitted = dataclasses.replace(fitted, report={**fitted.report, "warm_start": start_version})
    version = registry.publish(
        fitted,
        created=now(),
        fingerprint=store.fingerprint,
        trained_on=None if trained_on is None else trained_on(),
        promote=promote,
    )
    _tell(version, fitted.report, promote)
    return version


def _say_left_out(left_out: LeftOut, settings: Settings) -> None:
    """Which rows train nothing, why, and what would help."""
    reasons = []
    if left_out.missing:
        reasons.append(f"{left_out.missing} with a feature missing")
    if left_out.not_finite:
        reasons.append(f"{left_out.not_finite} with a value that is infinite or too large for a 32-bit float")
    if reasons:
        advice = ""
        if left_out.missing and settings.records.missing == "refuse":
            advice = (
                "; the daemon rejects records like these: set records.missing: fill to have missing values filled in"
            )
        log.warning(
            "%d of %d rows are left out of training: %s%s",
            left_out.missing + left_out.not_finite,
            left_out.rows,
            ", ".join(reasons),
            advice,
        )
    if left_out.late:
        log.warning(
            "%s left out of training: older than the newest of their stream, as the daemon would leave them out; "
            "time.lateness, now %g s, is how long it waits for such",
            "1 row is" if left_out.late == 1 else f"{left_out.late} rows are",
            settings.time.lateness,
        )
    if left_out.outside:
        market = settings.sessions.build()
        log.log(
            logging.WARNING if left_out.outside > MOST_OUTSIDE * left_out.rows else logging.INFO,
            "%d of %d rows are left out of training: they lie outside of the sessions of %s, known %s",
            left_out.outside, left_out.rows, settings.sessions.calendar, "" if market is None else market.known,
        )  # fmt: skip
    if left_out.duplicate:
        log.warning(
            "%s left out of training: the stream has an earlier reading with the same time, and the first counts",
            "1 row is" if left_out.duplicate == 1 else f"{left_out.duplicate} rows are",
        )


def _say_breaks(store: TrainingStore, settings: Settings) -> str:
    count = sum(map(len, store.breaks().values()))
    longer = "" if store.max_gap_s is None else f" longer than {store.max_gap_s:g} s"
    between = " or between sessions" if store.options.sessions is not None else ""
    return f", {_count(count, 'gap')}{longer}{between}" if count else ""


def _say_too_short(learned: Learned, store: TrainingStore) -> None:
    """Which streams trained nothing."""
    short = sorted(store.series().keys() - set(learned.streams))
    if short:
        log.warning(
            "too short to train on: %s (%s%s); without a baseline of their own, such streams are scored by that of all "
            "streams together",
            _count(len(short), "stream"),
            ", ".join(repr(name) for name in short[:_NAMED]),
            ", ..." if len(short) > _NAMED else "",
        )


def _count(n: int, noun: str) -> str:
    """

    >>> _count(1, "stream"), _count(2, "stream")
    ('1 stream', '2 streams')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _tell(version: str, report: dict[str, Any], promote: bool) -> None:
    log.info(
        "bundle %s: %d epochs, held-out loss %.4f; alert line for %g false incidents per stream and week, "
        "fitted on %d clusters in %.1f stream-days; the held-out part would have had %d, the budget allows %.1f%s",
        version,
        report["epochs"],
        report["held_out_loss"],
        report["budget_per_stream_per_week"],
        report["tail"]["clusters"],
        report["tail"]["stream_days"],
        report["incidents_in_held_out"],
        report["incidents_allowed_in_held_out"],
        "" if promote else "; not promoted",
    )


def training_device(wanted: str, ranks: Ranks = ALONE) -> str:
    """Where to train: `cpu`, or the GPU of this process.

    Raises:
        ConfigError: `cuda` is wanted and there is none, not one for every process, or only some have one.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = "cpu" if wanted == "cpu" or (wanted == "auto" and not count) else f"cuda:{ranks.local}"
    if device != "cpu" and ranks.local >= count:
        raise ConfigError(
            f"model.device: wanted a CUDA device for process {ranks.local + 1} of this machine; torch sees {count}: "
            "start fewer processes, or set it to cpu"
        )
    if len({found.partition(":")[0] for found in ranks.gather(device)}) > 1:
        raise ConfigError(
            "model.device: wanted one kind of device for all processes; auto found CUDA for some: set it to cpu"
        )
    return device


def _learn(settings: Settings, store: TrainingStore, start: Detector | None, device: str, ranks: Ranks) -> Learned:
    """Train, and show how far it is."""
    model = settings.model
    options = TrainingOptions(
        epochs=model.epochs,
        steps_per_epoch=model.steps_per_epoch,
        patience=model.patience,
        batch_size=model.batch_size,
        learning_rate=model.learning_rate,
        seed=model.seed,
        device=device,
        strength=model.strength,
        target_activation=model.target_activation,
    )
    with progress("training, epochs", model.epochs, shown=ranks.first) as advance:

        def on_step(done: int, most: int) -> None:
            advance(model.epochs / most)

        def on_epoch(report: EpochReport) -> None:
            advance(0, f"held-out loss {report.held_out_loss:.4f}{' *' if report.best else ''}")

        return learn(
            {name: values for name, (_, values) in store.series().items()},
            settings.features,
            settings.architecture(),
            context=settings.pipeline_options().context,
            options=options,
            holdout=model.holdout,
            breaks=store.breaks(),
            on_epoch=on_epoch,
            on_step=on_step,
            start_from=start,
            room=store.room,
            ranks=ranks,
        )


def _read(settings: Settings, paths: Sequence[Path], where: Sequence[str]) -> Iterator[DataSet]:
    with progress("reading, MB", datafiles.size_of(paths) / 1e6) as advance:
        yield from datafiles.pieces(
            paths,
            settings.records,
            where,
            lambda size: advance(size / 1e6),
            files=settings.files,
            exact=settings.time.active,
        )


def _require_same(settings: Settings, start: Detector, version: str) -> None:
    """Weights fit only the network they were made for: say so before the data is prepared."""
    different = settings.architecture().differences(start.architecture)
    if start.context != (wanted := settings.pipeline_options().context):
        different.append(f"time.context {list(wanted)}, not {list(start.context)}")
    if start.features != settings.features:
        different.append(f"features {list(settings.features)}, not {list(start.features)}")
    if different:
        raise ConfigError(
            f"--warm-start: wanted a bundle made like the settings say; {version} is not: {'; '.join(different)}; "
            "change the settings back, or leave --warm-start out"
        )
