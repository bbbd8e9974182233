"""What a network is made of, in words and numbers, and which of them fit together.

Free of torch, so that a configuration is checked without loading it. Not inside: the
network itself (`autoencoder`), how it is trained (`training`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from models.errors import ShapeError

# The one list of each; configuration and tables of classes take the names from here.
BackboneName = Literal["lstm", "gru", "dense", "conv"]
RegulariserName = Literal["plain", "denoising", "sparse", "sparse-kl", "contractive", "variational", "adversarial"]
BACKBONES: tuple[BackboneName, ...] = get_args(BackboneName)
REGULARISERS: tuple[RegulariserName, ...] = get_args(RegulariserName)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything needed to build the network again."""

    features: int  # values of a reading
    window: int = 64  # readings in a window
    patch: int = 8  # readings in one step of the encoder
    hidden: int = 64  # units of each layer
    latent: int = 16  # width of the bottleneck
    layers: int = 1  # layers in encoder and in decoder
    backbone: str = "lstm"
    regulariser: str = "plain"
    context: int = 0  # inputs beside the features that are known beforehand: read, not reconstructed, not scored

    def __post_init__(self) -> None:
        for name in ("features", "window", "patch", "hidden", "latent", "layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ShapeError(f"{name} must be a positive integer; got {value!r}")
        if not isinstance(self.context, int) or isinstance(self.context, bool) or self.context < 0:
            raise ShapeError(f"context must be an integer, 0 or more; got {self.context!r}")
        if self.window % self.patch:
            raise ShapeError(f"window must be a multiple of patch; got {self.window} and {self.patch}")
        if self.backbone not in BACKBONES:
            raise ShapeError(f"backbone must be one of {', '.join(BACKBONES)}; got {self.backbone!r}")
        if self.regulariser not in REGULARISERS:
            raise ShapeError(f"regulariser must be one of {', '.join(REGULARISERS)}; got {self.regulariser!r}")
        # Looked at first: from a damaged manifest, 2**layers may be a number of gigabytes.
        if self.backbone == "conv" and (self.layers >= self.steps.bit_length() or self.steps % 2**self.layers):
            raise ShapeError(
                f"backbone conv halves the patches of a window in every layer, so window / patch must be a multiple of "
                f"2**layers; got {self.window} / {self.patch} = {self.steps} patches and layers {self.layers}: "
                "take fewer layers or a smaller patch"
            )
        if self.regulariser == "sparse-kl" and self.latent == 1:
            raise ShapeError(
                "regulariser sparse-kl activates each unit of the bottleneck in few windows only; with latent 1 "
                "most windows would have no active unit: take a larger latent, or another regulariser"
            )

    @property
    def steps(self) -> int:
        """Patches in a window."""
        return self.window // self.patch

    @property
    def width(self) -> int:
        """Numbers of a reading as the network is given it: its features, then its context."""
        return self.features + self.context

    def to_dict(self) -> dict[str, Any]:
        """Of a network without context as of one that never heard of it."""
        found = asdict(self)
        if not self.context:
            del found["context"]
        return found

    def differences(self, other: Architecture) -> list[str]:
        """What parts this from another, in words; empty if weights of the one fit the other.

        >>> Architecture(features=2, latent=8).differences(Architecture(features=2))
        ['latent 8, not 16']
        """
        ours, theirs = asdict(self), asdict(other)
        return [f"{name} {ours[name]!r}, not {theirs[name]!r}" for name in ours if ours[name] != theirs[name]]


def check_context(context: Sequence[str], architecture: Architecture) -> None:
    """See that names of a context fit a network.

    Raises:
        ShapeError: One of both has a context and the other has not, or there are more names than columns.
    """
    if bool(context) != bool(architecture.context) or len(context) > architecture.context:
        raise ShapeError(
            f"a network with {architecture.context} columns of context needs names of what they hold, at most one for "
            f"each; got {list(context)}"
        )
