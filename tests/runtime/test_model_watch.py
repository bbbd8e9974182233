"""A promoted bundle is taken into use; a bad one is refused once and the one in use stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from models.detector import Detector
from models.errors import ArtifactError
from models.store.registry import Registry
from streamer.core.pipeline import Pipeline
from streamer.observability.metrics import Metrics
from streamer.runtime.model_watch import ModelWatch
from tests import tiny
from tests.tiny import VERSION

NEWER = "20260202T030405Z-5e6f7a8b"


class Bundles(Registry):
    """A registry that says what the test wants."""

    def __init__(self, detector: Detector) -> None:
        super().__init__(Path("nowhere"))
        self.detector, self.now = detector, VERSION
        self.bad: str | None = None
        self.pointer_is_bad = False
        self.loaded = list[str | None]()

    def current(self) -> str | None:
        if self.pointer_is_bad:
            raise ArtifactError("current: wanted a version; got '../../etc/passwd'")
        return self.now

    def load(self, version: str | None = None) -> tuple[Detector, dict[str, object]]:
        self.loaded.append(version)
        if version == self.bad:
            raise ArtifactError("weights: wanted another sha256")
        return self.detector, {}


@pytest.fixture
def bundles(tiny_detector: Detector) -> Bundles:
    return Bundles(tiny_detector)


@pytest.fixture
def pipeline(tiny_detector: Detector) -> Pipeline:
    return Pipeline(tiny.settings().pipeline_options(), tiny_detector, VERSION)


def failures(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("streamer_model_reload_failures_total", {"reason": "artifact"}) or 0.0


def test_a_promoted_bundle_is_taken_into_use(bundles: Bundles, pipeline: Pipeline) -> None:
    watch = ModelWatch(pipeline, bundles, Metrics(CollectorRegistry()))

    watch.look()
    same = pipeline.scorer.version
    bundles.now = NEWER
    watch.look()
    watch.look()

    assert (same, pipeline.scorer.version) == (VERSION, NEWER)
    assert bundles.loaded == [NEWER]


def test_a_bad_bundle_is_refused_once_and_tried_again_when_it_is_promoted_again(
    bundles: Bundles, pipeline: Pipeline
) -> None:
    metrics = Metrics(CollectorRegistry())
    watch = ModelWatch(pipeline, bundles, metrics)

    bundles.now = bundles.bad = NEWER
    for _ in range(3):
        watch.look()
    refused_once = failures(metrics), pipeline.scorer.version
    bundles.now, bundles.bad = VERSION, None
    watch.look()
    bundles.now = NEWER
    watch.look()

    assert refused_once == (1, VERSION)
    assert pipeline.scorer.version == NEWER


def test_a_damaged_pointer_is_reported_once(bundles: Bundles, pipeline: Pipeline) -> None:
    metrics = Metrics(CollectorRegistry())
    watch = ModelWatch(pipeline, bundles, metrics)

    bundles.pointer_is_bad = True
    for _ in range(3):
        watch.look()

    assert (failures(metrics), pipeline.scorer.version) == (1, VERSION)
