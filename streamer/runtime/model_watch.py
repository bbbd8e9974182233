"""The bundle in use: wait for the first, take newer ones over, refuse bad ones.

Not inside: which bundle is current (`models.store.registry`), what it fits (`core.pipeline`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from models.detector import Detector
from models.errors import ArtifactError, ModelError
from models.store.registry import Registry
from streamer.core.detectors import canary
from streamer.core.pipeline import Pipeline
from streamer.errors import ConfigError
from streamer.observability.metrics import Metrics

log = logging.getLogger(__name__)


def load_current(models: Registry) -> tuple[Detector, str] | None:
    """The current bundle's detector, tried out, and its version; None when nothing is current yet.

    Raises:
        ArtifactError: The current bundle cannot be trusted.
    """
    if models.current() is None:
        return None
    detector, manifest = models.load()
    canary(detector)
    return detector, str(manifest["version"])


class _Refused(Exception):
    """A bundle cannot be used; says why."""


class ModelWatch:
    """Swaps a pipeline's detector when another bundle is promoted.

    Args:
        pipeline: Whose detector.
        models: Where bundles are promoted.
        metrics: Says which bundle is in use.
    """

    def __init__(self, pipeline: Pipeline, models: Registry, metrics: Metrics) -> None:
        self._pipeline, self._models, self._metrics = pipeline, models, metrics
        self.gone: set[str] = set()  # versions that were needed and cannot be used
        self._refused: str | None = None  # version, or what is wrong with the pointer; logged once

    def look(self, *, needed: Collection[str] = (), ready: Callable[[], bool] = lambda: True) -> bool:
        """Take a newly promoted bundle into use; a bad one is refused once and the old one stays.

        Args:
            needed: Bundles that come first: the one in use stays if it is among them, else the oldest is taken. One
                that cannot be used is `gone` from then on.
            ready: Asked right before the swap; not now, then at the next look.

        Returns:
            False when a bundle waits for `ready`.
        """
        in_use = self._pipeline.scorer.version
        while first := sorted(set(needed) - self.gone):
            if in_use in first:
                return True
            try:
                return self._take(first[0], ready)
            except _Refused as refused:
                self.gone.add(first[0])
                log.error(
                    "bundle %s cannot be used: with it readings were told that are not committed, and they may be told "
                    "again with other scores: %s",
                    first[0], refused, extra={"model_version": first[0]},
                )  # fmt: skip
        try:
            version = self._models.current()
        except ArtifactError as error:
            if self._refused != str(error):
                self._refused = str(error)
                self._metrics.model_reload_failures.labels("artifact").inc()
                log.error("current bundle not readable, %s stays in use: %s", in_use, error)
            return True
        if version == in_use:
            self._refused = None  # promoted again, a refused bundle may have been mended
        if version in (None, in_use, self._refused):
            return True
        assert version is not None
        try:
            return self._take(version, ready)
        except _Refused as refused:
            self._refused = version
            log.error(
                "bundle %s refused, %s stays in use: %s", version, in_use, refused, extra={"model_version": version}
            )
        return True

    def _take(self, version: str, ready: Callable[[], bool]) -> bool:
        """Swap; False when it is not the moment.

        Raises:
            _Refused: It is no good, which is counted.
        """
        reason = "artifact"
        try:
            detector, _ = self._models.load(version)
            reason = "canary"
            canary(detector)
            reason = "config"
            if not ready():
                log.warning("bundle %s waits for a checkpoint", version, extra={"model_version": version})
                return False
            self._pipeline.swap(detector, version)
        except (ArtifactError, ModelError, ConfigError) as error:
            self._metrics.model_reload_failures.labels(reason).inc()
            raise _Refused(str(error)) from error
        self._metrics.model_reloads.inc()
        self.announce()
        return True

    def announce(self) -> None:
        """Say in log and metrics which bundle is in use."""
        scorer = self._pipeline.scorer
        made = scorer.detector.architecture
        self._metrics.model_info.clear()
        self._metrics.model_info.labels(scorer.version, made.backbone, made.regulariser).set(1)
        created = datetime.strptime(scorer.version[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        self._metrics.model_trained.set(created.timestamp())
        about = {"model_version": scorer.version}
        policy = scorer.detector.policy
        log.info(
            "scoring with bundle %s; alert line for %g false incidents per stream-week, %d of %d readings, stride %d",
            scorer.version, policy.budget_per_stream_per_week, policy.open_after, policy.open_within, policy.stride,
            extra=about,
        )  # fmt: skip
        if self._pipeline.recomputed:
            log.info("alert line recomputed from the bundle: %s", ", ".join(self._pipeline.recomputed), extra=about)
