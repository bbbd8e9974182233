"""What can be wrong with an array, a training run or a stored model.

ModelError
  ShapeError     arrays of another shape or with NaN, an architecture that cannot be,
                 or one asked for what it cannot do
  TrainingError  the data cannot train a model; says how much was wanted
  ArtifactError  a bundle is missing, damaged or of another make: refuse it
  PolicyError    an alert policy that is out of range, or that a bundle cannot serve: change the
                 settings, or retrain
"""


class ModelError(Exception):
    """Base of every error this package raises on purpose."""


class ShapeError(ModelError, ValueError):
    """Arrays of the wrong shape or not finite, or an architecture that does not fit what is asked."""


class TrainingError(ModelError):
    """The data given cannot train or calibrate a model."""


class ArtifactError(ModelError):
    """A stored model cannot be trusted; keep the one that works."""


class PolicyError(ModelError):
    """An alert policy is out of range, or cannot be served by this bundle."""
