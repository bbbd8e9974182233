"""Encoder and decoder pairs with one interface: what reads a window, what writes one.

A backbone makes two plain modules and says how data runs through them:

    encoder   patches (batch, steps, width)  -> summary (batch, hidden), and the states it went through
    decoder   latent (batch, latent)         -> states (batch, pieces, hidden)

Where readings have a context, the decoder is given that of every patch beside the latent, `(batch, steps, width)`.

The linear layers around them (summary to latent, states to readings) are the same for all
and live in `autoencoder`. `pieces` is how many parts of the window the last layer writes:
one for each patch, or one for all. Not inside: the bottleneck, penalties, training.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from models.network.architecture import Architecture


class Backbone(Protocol):
    """Makes an encoder and a decoder and runs them."""

    in_order: bool  # the encoder reads patch after patch, so a state knows nothing of later ones

    def encoder(self, a: Architecture) -> nn.Module: ...

    def read(self, encoder: nn.Module, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        """Summary `(batch, hidden)`; if `in_order` the state after each patch, `(batch, steps, hidden)`."""
        ...

    def decoder(self, a: Architecture) -> nn.Module: ...

    def states(self, decoder: nn.Module, latent: Tensor, context: Tensor | None, a: Architecture) -> Tensor: ...

    def pieces(self, a: Architecture) -> int: ...


class Recurrent:
    """A recurrent network reads patch after patch; another one unrolls the latent, repeated at every step.

    torch's own layers, because oneDNN runs an `nn.LSTM` at twice the speed of anything
    composed of smaller parts.

    After Malhotra et al., 2016, https://arxiv.org/abs/1607.00148; GRU by Cho et al., 2014,
    https://arxiv.org/abs/1406.1078.
    """

    in_order = True

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        self.kind = kind

    def encoder(self, a: Architecture) -> nn.Module:
        return self.kind(a.patch * a.width, a.hidden, a.layers, batch_first=True)

    def read(self, encoder: nn.Module, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        states: Tensor = encoder(patches)[0]  # (batch, steps, hidden)
        return states[:, -1], states

    def decoder(self, a: Architecture) -> nn.Module:
        return self.kind(a.latent + a.patch * a.context, a.hidden, a.layers, batch_first=True)

    def states(self, decoder: nn.Module, latent: Tensor, context: Tensor | None, a: Architecture) -> Tensor:
        given = latent.unsqueeze(1).expand(-1, a.steps, -1)  # (batch, steps, latent)
        if context is not None:
            given = torch.cat([given, context], 2)
        states: Tensor = decoder(given)[0]  # (batch, steps, hidden)
        return states

    def pieces(self, a: Architecture) -> int:
        return a.steps


class Dense:
    """Every reading of the window is connected to every unit.

    After Hinton and Salakhutdinov, 2006, doi:10.1126/science.1127647.
    """

    in_order = False

    def encoder(self, a: Architecture) -> nn.Module:
        return _stack(a.window * a.width, a.hidden, a.layers)

    def read(self, encoder: nn.Module, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        return encoder(patches.flatten(1)), None

    def decoder(self, a: Architecture) -> nn.Module:
        return _stack(a.latent + a.window * a.context, a.hidden, a.layers)

    def states(self, decoder: nn.Module, latent: Tensor, context: Tensor | None, a: Architecture) -> Tensor:
        states: Tensor = decoder(_beside(latent, context))  # (batch, hidden)
        return states.unsqueeze(1)

    def pieces(self, a: Architecture) -> int:
        return 1


class Conv:
    """Convolutions along the patches: every layer halves their number, in the decoder doubles it.

    After Masci et al., 2011, doi:10.1007/978-3-642-21735-7_7; strides in place of pooling by
    Springenberg et al., 2015, https://arxiv.org/abs/1412.6806.
    """

    in_order = False

    def encoder(self, a: Architecture) -> nn.Module:
        parts: list[nn.Module] = [nn.Conv1d(a.patch * a.width, a.hidden, 3, padding=1), nn.ReLU()]
        for _ in range(a.layers):
            parts += [nn.Conv1d(a.hidden, a.hidden, 4, stride=2, padding=1), nn.ReLU()]
        # What is left of the window keeps its order: a mean over it would forget when.
        return nn.Sequential(*parts, nn.Flatten(), nn.Linear(a.hidden * self._left(a), a.hidden), nn.ReLU())

    def read(self, encoder: nn.Module, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        return encoder(patches.transpose(1, 2)), None  # (batch, width, steps) -> (batch, hidden)

    def decoder(self, a: Architecture) -> nn.Module:
        left = self._left(a)
        given = a.latent + a.window * a.context
        parts: list[nn.Module] = [nn.Linear(given, a.hidden * left), nn.ReLU(), nn.Unflatten(1, (a.hidden, left))]
        for _ in range(a.layers):
            parts += [nn.ConvTranspose1d(a.hidden, a.hidden, 4, stride=2, padding=1), nn.ReLU()]
        return nn.Sequential(*parts)

    def states(self, decoder: nn.Module, latent: Tensor, context: Tensor | None, a: Architecture) -> Tensor:
        states: Tensor = decoder(_beside(latent, context))  # (batch, hidden, steps)
        return states.transpose(1, 2)

    def pieces(self, a: Architecture) -> int:
        return a.steps

    @staticmethod
    def _left(a: Architecture) -> int:
        """Patches after the last layer; `Architecture` sees to it that none is cut in two."""
        return int(a.steps // 2**a.layers)


BACKBONES: dict[str, Backbone] = {
    "lstm": Recurrent(nn.LSTM),
    "gru": Recurrent(nn.GRU),
    "dense": Dense(),
    "conv": Conv(),
}


def _beside(latent: Tensor, context: Tensor | None) -> Tensor:
    return latent if context is None else torch.cat([latent, context.flatten(1)], 1)


def _stack(width: int, hidden: int, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for k in range(layers):
        parts += [nn.Linear(width if k == 0 else hidden, hidden), nn.ReLU()]
    return nn.Sequential(*parts)
