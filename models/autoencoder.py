"""The recurrent autoencoder: encoder, bottleneck, decoder.

A window is cut into patches of consecutive readings; each patch enters the LSTM
as one step, so a window of 64 readings is 8 steps. The network knows nothing of
scales, thresholds or training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from models.errors import ShapeError

BACKBONES = ("lstm",)
REGULARISERS = ("plain",)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Everything needed to build the network again."""

    features: int  # channels of a reading
    window: int = 64  # readings in a window
    patch: int = 8  # readings in one step of the encoder
    hidden: int = 64  # units of each recurrent layer
    latent: int = 16  # width of the bottleneck
    layers: int = 1  # recurrent layers in encoder and in decoder
    backbone: str = "lstm"
    regulariser: str = "plain"

    def __post_init__(self) -> None:
        for name in ("features", "window", "patch", "hidden", "latent", "layers"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ShapeError(f"{name} must be a positive integer; got {value!r}")
        if self.window % self.patch:
            raise ShapeError(f"window must be a multiple of patch; got {self.window} and {self.patch}")
        if self.backbone not in BACKBONES:
            raise ShapeError(f"backbone must be one of {', '.join(BACKBONES)}; got {self.backbone!r}")
        if self.regulariser not in REGULARISERS:
            raise ShapeError(f"regulariser must be one of {', '.join(REGULARISERS)}; got {self.regulariser!r}")

    @property
    def steps(self) -> int:
        """Patches in a window."""
        return self.window // self.patch

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class RecurrentAutoencoder(nn.Module):
    """LSTM encoder -> linear bottleneck -> LSTM decoder -> linear head.

    The decoder sees only the bottleneck, repeated at every step, so nothing reaches
    the output that the bottleneck did not carry.

    After Malhotra et al., 2016, https://arxiv.org/abs/1607.00148, with patches as in
    Nie et al., 2023, https://arxiv.org/abs/2211.14730.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        width = a.patch * a.features
        self.encoder = nn.LSTM(width, a.hidden, a.layers, batch_first=True)
        self.bottleneck = nn.Linear(a.hidden, a.latent)
        self.decoder = nn.LSTM(a.latent, a.hidden, a.layers, batch_first=True)
        self.head = nn.Linear(a.hidden, width)

    def encode(self, x: Tensor) -> Tensor:
        """The bottleneck of each window: `(batch, window, features)` to `(batch, latent)`."""
        a = self.architecture
        if x.dim() != 3 or x.shape[1:] != (a.window, a.features):
            raise ShapeError(f"windows must be (batch, {a.window}, {a.features}); got {tuple(x.shape)}")
        patches = x.reshape(-1, a.steps, a.patch * a.features)  # (batch, steps, patch * features)
        states, _ = self.encoder(patches)  # (batch, steps, hidden)
        latent: Tensor = self.bottleneck(states[:, -1])  # (batch, latent)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Windows from bottlenecks: `(batch, latent)` to `(batch, window, features)`."""
        a = self.architecture
        repeated = latent.unsqueeze(1).expand(-1, a.steps, -1)  # (batch, steps, latent)
        states, _ = self.decoder(repeated)  # (batch, steps, hidden)
        patches = self.head(states)  # (batch, steps, patch * features)
        windows: Tensor = patches.reshape(-1, a.window, a.features)
        return windows

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild each window from its bottleneck.

        Args:
            x: Windows in model units, `(batch, window, features)`, float32. In raw
                sensor units everything looks like an anomaly: scale first.

        Returns:
            Rebuilt windows, same shape and dtype.

        Raises:
            ShapeError: `window` or `features` differ from the architecture's.
        """
        return self.decode(self.encode(x))
