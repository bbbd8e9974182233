"""What each regulariser does in training: one class for each kind, with hooks for the training loop.

    corrupt   windows before the encoder               denoising
    sample    what the decoder gets in training        variational: a draw; others: the latent
    penalty   term added to the squared error          sparse, contractive, variational, adversarial
    learn     a step of a helper network of its own    adversarial

`strength` is the one number that turns each up or down; every class says its unit. Not inside:
the loop (`training`), how a bottleneck's output is read as a latent (`models.network.latents`), which
is all that scoring needs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.fitting.distributed import ALONE, Ranks
from models.network.architecture import Architecture
from models.network.autoencoder import Autoencoder
from models.network.latents import LATENTS


class Regulariser:
    """`plain`: the bottleneck is the only regularisation; no hook does anything.

    Args:
        architecture: Of the network in training.
        strength: None takes the default of the kind.
        target_activation: For `sparse-kl`.
        seed: Of every draw; the global random state is left alone.
        device: Where the windows are.
        ranks: The processes that train together. What concerns a whole batch is that of all
            of them; draws are each one's own.
    """

    default_strength: ClassVar[float] = 0.0
    allows_mixed_precision: ClassVar[bool] = True

    def __init__(
        self,
        architecture: Architecture,
        *,
        strength: float | None = None,
        target_activation: float | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.architecture = architecture
        self.latent = LATENTS[architecture.regulariser].latent
        self.strength = self.default_strength if strength is None else strength
        self.target_activation = 0.05 if target_activation is None else target_activation
        self.seed, self.ranks = seed, ranks
        # Half the bits of a seed leave room for the rank; the first process draws what one alone would.
        self.random = torch.Generator(device).manual_seed(seed + (ranks.rank << 32))

    def corrupt(self, windows: Tensor) -> Tensor:
        return windows

    def sample(self, code: Tensor) -> Tensor:
        return self.latent(code)

    def penalty(self, network: Autoencoder, windows: Tensor, code: Tensor, latent: Tensor) -> Tensor | None:
        """Term of the loss, a scalar; None for none.

        Args:
            network: In training.
            windows: What the encoder was given.
            code: What its bottleneck put out.
            latent: From `sample`.
        """
        return None

    def learn(self, latent: Tensor) -> None:
        """After each step of the network, with the latents it was made on, detached."""

    def _noise(self, windows: Tensor) -> Tensor:
        """Standard normal in the features, nothing in the context: that is known, not measured."""
        noise = self._normal_like(windows)
        noise[:, :, self.architecture.features :] = 0.0
        return noise

    def _normal_like(self, other: Tensor) -> Tensor:
        return torch.randn(other.shape, generator=self.random, device=other.device, dtype=other.dtype)


class Denoising(Regulariser):
    """The clean window is wanted from a noisy one. Strength: standard deviation of the noise, model units.

    After Vincent et al., 2010, Stacked denoising autoencoders, JMLR 11:3371-3408.
    """

    default_strength = 0.2

    def corrupt(self, windows: Tensor) -> Tensor:
        return windows + self.strength * self._noise(windows)


class Sparse(Regulariser):
    """Latents are pulled to zero by their absolute value (L1). Strength: weight of the mean of it.

    After Olshausen and Field, 1996, doi:10.1038/381607a0.
    """

    default_strength = 1e-2

    def penalty(self, network: Autoencoder, windows: Tensor, code: Tensor, latent: Tensor) -> Tensor:
        return self.strength * latent.abs().mean()


class SparseKl(Regulariser):
    """Latents are activations in (0, 1), each of which is to be active in few windows.

    The divergence of each unit's mean activation in a batch from `target_activation`, mean over
    units. Strength: its weight. After Ng, 2011, Sparse autoencoder, CS294A lecture notes.
    """

    default_strength = 1e-2

    def penalty(self, network: Autoencoder, windows: Tensor, code: Tensor, latent: Tensor) -> Tensor:
        wanted, active = self.target_activation, self.ranks.mean(latent.mean(0)).clamp(1e-6, 1 - 1e-6)
        divergence = wanted * (wanted / active).log() + (1 - wanted) * ((1 - wanted) / (1 - active)).log()
        return self.strength * divergence.mean()


class Contractive(Regulariser):
    """A small change of the window is to change the latent little.

    Squared Frobenius norm of the encoder's Jacobian, mean over latents. Strength: its weight.
    For a standard normal v, E |J v|^2 is that norm (Hutchinson); J v is a finite difference:
    one more pass of the encoder whatever the backbone, and no second derivative, which
    cuDNN's recurrent layers do not have. After Rifai et al., 2011, Contractive auto-encoders: explicit
    invariance during feature extraction, ICML.
    """

    default_strength = 1e-2
    allows_mixed_precision = False  # a difference of two latents that are nearly equal
    STEP = 1e-2  # small against model units, large against float32's rounding

    def penalty(self, network: Autoencoder, windows: Tensor, code: Tensor, latent: Tensor) -> Tensor:
        return self.strength * self.squared_norm(network, windows, latent) / latent.shape[1]

    def squared_norm(self, network: Autoencoder, windows: Tensor, latent: Tensor) -> Tensor:
        """Estimate of the Jacobian's squared Frobenius norm, mean over windows."""
        moved = network.encode(windows + self.STEP * self._noise(windows))
        return ((moved - latent) / self.STEP).square().sum(1).mean()


class Variational(Regulariser):
    """The bottleneck gives a mean and a variance; the decoder gets a draw, when scoring the mean.

    Strength: variance of a reading around its expected value that the evidence lower bound
    assumes, model units; it weighs the divergence from the standard normal. After Kingma and
    Welling, 2014, https://arxiv.org/abs/1312.6114.
    """

    default_strength = 0.1

    def sample(self, code: Tensor) -> Tensor:
        mean, log_variance = self._moments(code)
        return mean + (0.5 * log_variance).exp() * self._normal_like(mean)

    def penalty(self, network: Autoencoder, windows: Tensor, code: Tensor, latent: Tensor) -> Tensor:
        mean, log_variance = self._moments(code)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()
        # -log p(x | z) is the squared error over twice the variance; here the error is a mean over readings.
        return 2.0 * self.strength * divergence / (self.architecture.window * self.architecture.features)

    @staticmethod
    def _moments(code: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)  # a wild first step must not overflow exp


class Adversarial(Regulariser):
    """A discriminator learns to tell latents from standard normal draws; the encoder, to deceive it.

    Strength: weight of the deceit. The discriminator is part of training alone. After
    Makhzani et al., 2015, https://arxiv.org/abs/1511.05644.
    """

    default_strength = 3e-3
    UNITS, LEARNING_RATE = 64, 1e-3

    def __init__(self, architecture: Architecture, **options: Any) -> None:
        super().__init__(architecture, **options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # every process begins with the same one
            self.discriminator = nn.Sequential(
                nn.Linear(architecture.latent, self.UNITS),
                nn.LeakyReLU(0.2),
                nn.Linear(self.UNITS, self.UNITS),
                nn.LeakyReLU(0.2),
                nn.Linear(self.UNITS, 1),
            ).to(self.random.device)
        # Without momentum it does not chase latents of many steps ago.
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), self.LEARNING_RATE, betas=(0.5, 0.999))

    def penalty(self, network: Autoencoder, windows: Tensor, code: Tensor, latent: Tensor) -> Tensor:
        # softplus(-logit) is the cross-entropy against "drawn from the normal".
        return self.strength * nn.functional.softplus(-self.discriminator(latent)).mean()

    def learn(self, latent: Tensor) -> None:
        drawn = self.discriminator(self._normal_like(latent))
        encoded = self.discriminator(latent)
        loss = nn.functional.softplus(-drawn).mean() + nn.functional.softplus(encoded).mean()
        self.optimizer.zero_grad(set_to_none=True)  # the encoder's step left gradients here
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.discriminator.parameters())
        self.optimizer.step()


REGULARISERS: dict[str, type[Regulariser]] = {
    "plain": Regulariser,
    "denoising": Denoising,
    "sparse": Sparse,
    "sparse-kl": SparseKl,
    "contractive": Contractive,
    "variational": Variational,
    "adversarial": Adversarial,
}
