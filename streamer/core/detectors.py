"""What is asked of a bundle's detector before it scores: that it fits the configuration, and that scores are numbers.

Not inside: where bundles come from (`models.store`), when one is swapped in (`runtime`).
"""

from __future__ import annotations

import numpy as np

from models.detector import Detector
from models.errors import ModelError, PolicyError
from streamer.core.options import PipelineOptions
from streamer.errors import ConfigError


def fitted(options: PipelineOptions, detector: Detector, version: str) -> Detector:
    """A bundle's detector with the alert line of a configuration.

    Raises:
        ConfigError: The bundle does not serve the configuration; names the key that differs.
    """
    made_for = detector.architecture
    for key, wanted, got in (
        ("records.features", list(options.features), list(detector.features)),
        ("time.context", list(options.context), list(detector.context)),
        ("window.length", options.window, made_for.window),
        ("window.patch", options.patch, made_for.patch),
    ):
        if wanted != got:
            raise ConfigError(
                f"{key}: the configuration says {wanted!r}, bundle {version} was trained with {got!r}; retrain"
            )
    try:
        return detector.with_policy(options.policy)
    except PolicyError as error:
        raise ConfigError(f"alerting: bundle {version}: {error}") from None


def canary(detector: Detector) -> None:
    """Score windows at the centre of the baseline and see that the scores are numbers.

    Raises:
        ModelError: They are not.
    """
    a = detector.architecture
    try:
        score, _ = detector.score(np.zeros((2, a.window, a.width), np.float32), np.zeros(2, np.int64))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModelError(f"a window of zeros cannot be scored: {error}") from error
    if not (np.isfinite(score).all() and (score >= 0).all()):
        raise ModelError(f"a window of zeros scored {score.tolist()}; wanted finite numbers")
