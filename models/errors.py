"""What can be wrong with an array, a training run or a stored model.

ModelError
  ShapeError     the caller passed arrays of another shape or with NaN
  TrainingError  the data cannot train a model; says how much was wanted
  ArtifactError  a bundle is missing, damaged or of another make: refuse it
"""


class ModelError(Exception):
    """Base of every error this package raises on purpose."""


class ShapeError(ModelError, ValueError):
    """Arrays of the wrong shape, or with values that are not finite."""


class TrainingError(ModelError):
    """The data given cannot train or calibrate a model."""


class ArtifactError(ModelError):
    """A stored model cannot be trusted; keep the one that works."""
