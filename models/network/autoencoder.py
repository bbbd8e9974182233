"""The autoencoder: a backbone's encoder, a bottleneck, the backbone's decoder, a head.

An encoder that reads in order also forecasts, after each patch, the next one.

A window is cut into patches of consecutive readings; a recurrent backbone takes each as
one step, so a window of 64 readings is 8 steps. Here backbone and regulariser meet: the
one says what lies before and after the bottleneck, the other what the bottleneck means.
The network knows nothing of scales, thresholds or training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.errors import ShapeError
from models.network.architecture import Architecture
from models.network.backbones import BACKBONES
from models.network.latents import LATENTS

__all__ = ["Architecture", "Autoencoder", "forecasts"]


class Autoencoder(nn.Module):
    """Encoder -> linear bottleneck -> decoder -> linear head.

    The decoder sees only the latent, so nothing reaches the output that the bottleneck
    did not carry. Reconstruction is deterministic, whatever the regulariser: noise and
    samples belong to training.

    One more linear layer forecasts each patch from the encoder's state before it, if the
    backbone reads in order and a window has more than one patch (`forecasts`). A forecast
    cannot copy, so short faults stand out in it that a reconstruction follows.

    Readings may have a context, numbers beside the features that are known beforehand, such as the
    time of day. The encoder reads it, the decoder and the forecast are given that of the patches they
    write; it is neither reconstructed nor forecast.

    The default is an LSTM after Malhotra et al., 2016, https://arxiv.org/abs/1607.00148,
    with patches as in Nie et al., 2023, https://arxiv.org/abs/2211.14730; reconstruction
    beside forecast as in Srivastava et al., 2015, https://arxiv.org/abs/1502.04681.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = a = architecture
        self._backbone = backbone = BACKBONES[a.backbone]
        self._latents = kind = LATENTS[a.regulariser]
        self.encoder = backbone.encoder(a)
        self.bottleneck = nn.Linear(a.hidden, a.latent * kind.codes_per_latent)
        self.decoder = backbone.decoder(a)
        self.head = nn.Linear(a.hidden, a.window * a.features // backbone.pieces(a))
        self.forecaster = _forecaster(a) if forecasts(a) else None

    def read(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """One pass of the encoder.

        Args:
            x: Windows in model units, `(batch, window, features + context)`.

        Returns:
            Code: what the bottleneck puts out, before it is read as a latent (`latents`),
            `(batch, latent)`; twice as wide where a latent has a mean and a variance.
            Forecast: of each patch but the first, from the patches before it,
            `(batch, window - patch, features)`; None if the network has none.

        Raises:
            ShapeError: `window`, `features` or `context` differ from the architecture's.
        """
        a = self.architecture
        if x.dim() != 3 or x.shape[1:] != (a.window, a.width):
            raise ShapeError(f"windows must be (batch, {a.window}, {a.width}); got {tuple(x.shape)}")
        patches = x.reshape(-1, a.steps, a.patch * a.width)  # (batch, steps, patch * width)
        summary, states = self._backbone.read(self.encoder, patches)
        if self.forecaster is None or states is None:
            return self.bottleneck(summary), None
        known, context = states[:, :-1], self._context(x)
        if context is not None:
            known = torch.cat([known, context[:, 1:]], 2)
        forecast = self.forecaster(known).reshape(-1, a.window - a.patch, a.features)
        return self.bottleneck(summary), forecast

    def encode(self, x: Tensor) -> Tensor:
        """The latent of each window: `(batch, window, features + context)` to `(batch, latent)`."""
        return self._latents.latent(self.read(x)[0])

    def decode(self, latent: Tensor, x: Tensor | None = None) -> Tensor:
        """Windows from latents: `(batch, latent)` to `(batch, window, features)`.

        Args:
            latent: From `encode`.
            x: Windows whose context is that of the windows wanted; their features are not looked at. Needed
                if the network has a context.
        """
        a = self.architecture
        context = None if x is None else self._context(x)
        if context is None and a.context:
            raise ShapeError(f"a network with {a.context} numbers of context decodes latents beside that context alone")
        states = self._backbone.states(self.decoder, latent, context, a)  # (batch, pieces, hidden)
        written = self.head(states)  # (batch, pieces, readings of a piece * features)
        windows: Tensor = written.reshape(-1, a.window, a.features)
        return windows

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct each window from its latent.

        Args:
            x: Windows in model units, `(batch, window, features + context)`, float32. In raw
                sensor units everything looks like an anomaly: scale first.

        Returns:
            Reconstructed windows without the context, `(batch, window, features)`, same dtype.

        Raises:
            ShapeError: `window`, `features` or `context` differ from the architecture's.
        """
        return self.decode(self.encode(x), x)

    def reconstruct_and_forecast(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """`forward`, and the forecast of `read`, in one pass of the encoder."""
        code, forecast = self.read(x)
        return self.decode(self._latents.latent(code), x), forecast

    def _context(self, x: Tensor) -> Tensor | None:
        """The context of each patch, `(batch, steps, patch * context)`; None if the network has none."""
        a = self.architecture
        return x[:, :, a.features :].reshape(-1, a.steps, a.patch * a.context) if a.context else None


def _forecaster(a: Architecture) -> nn.Module:
    """A state, and the context of the patch after it, to that patch."""
    width = a.patch * a.features
    if not a.context:
        return nn.Linear(a.hidden, width)
    # What the context changes is not added to what came before: a market opens whatever the night was like.
    return nn.Sequential(nn.Linear(a.hidden + a.patch * a.context, a.hidden), nn.Tanh(), nn.Linear(a.hidden, width))


def forecasts(architecture: Architecture) -> bool:
    """Whether the network also forecasts each patch from those before it."""
    return BACKBONES[architecture.backbone].in_order and architecture.steps > 1
