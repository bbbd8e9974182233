"""What a bottleneck's output means: how each regulariser's is read as a latent.

Scoring needs this and nothing else of a regulariser; what each does in training is in
`models.fitting.regularisers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from models.network.architecture import REGULARISERS, RegulariserName


def _as_it_is(code: Tensor) -> Tensor:
    return code


def _mean(code: Tensor) -> Tensor:
    return code.chunk(2, dim=1)[0]


@dataclass(frozen=True, slots=True)
class LatentKind:
    """How a bottleneck's output, the code, is read."""

    latent: Callable[[Tensor], Tensor] = _as_it_is  # of a code `(batch, codes)`, without chance: `(batch, latent)`
    codes_per_latent: int = 1  # outputs of the bottleneck for each number of the latent
    prior: bool = False  # latents follow a standard normal, so that windows can be drawn


_OTHERS: dict[RegulariserName, LatentKind] = {
    "sparse-kl": LatentKind(latent=Tensor.sigmoid),
    "variational": LatentKind(latent=_mean, codes_per_latent=2, prior=True),
    "adversarial": LatentKind(prior=True),
}
LATENTS: dict[str, LatentKind] = {name: _OTHERS.get(name, LatentKind()) for name in REGULARISERS}
