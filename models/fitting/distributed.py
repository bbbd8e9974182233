"""The processes that train one network together, as `torchrun` starts them.

Each takes its part of every batch; gradients and losses are averaged over all of them, so every
process holds the same weights after every step and comes to the same decisions. One process
alone is the normal case, in which nothing here does anything. Not inside: what is trained (`training`).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from models.errors import TrainingError

# One process may read files for hours while the others wait; that one has died is noticed by torchrun.
_PATIENCE = datetime.timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1
    local: int = 0  # among those on this machine

    @property
    def first(self) -> bool:
        """The one that speaks, calibrates and publishes."""
        return self.rank == 0

    def check(self, batch_size: int) -> None:
        """Refuse a batch that cannot be shared evenly: the mean of parts would not be that of the whole."""
        if batch_size % self.size:
            raise TrainingError(
                f"model.batch_size is shared among all processes and must be a multiple of them; got {batch_size} "
                f"for {self.size}: change it, or torchrun's number of processes"
            )

    def share(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch that all have drawn alike."""
        return starts[self.rank :: self.size]

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Make every process hold the mean of all processes' gradients."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._together(lambda: dist.all_reduce(flat))
        flat /= self.size
        for gradient, mean in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, value: Tensor) -> Tensor:
        """Mean over all processes of a tensor that each has; gradients flow to one's own part.

        With gradients averaged afterwards, they are those of the mean over the whole batch.
        """
        if self.size == 1:
            return value
        whole = value.detach().clone()
        self._together(lambda: dist.all_reduce(whole))
        return whole / self.size + (value - value.detach())

    def sum(self, *numbers: float) -> list[float]:
        """Sums over all processes."""
        if self.size == 1:
            return list(numbers)
        whole = torch.tensor(numbers, dtype=torch.float64)
        self._together(lambda: dist.all_reduce(whole))
        return [float(number) for number in whole]

    def gather(self, text: str) -> list[str]:
        """What every process has to say, in order of rank; all wait for all."""
        if self.size == 1:
            return [text]
        own = torch.frombuffer(bytearray(text.encode() + b"\0"), dtype=torch.uint8)
        longest = torch.tensor(len(own))
        self._together(lambda: dist.all_reduce(longest, dist.ReduceOp.MAX))
        padded = torch.nn.functional.pad(own, (0, int(longest) - len(own)))
        found = [torch.empty_like(padded) for _ in range(self.size)]
        self._together(lambda: dist.all_gather(found, padded))
        return [bytes(each.numpy()).rstrip(b"\0").decode() for each in found]

    def leave(self) -> None:
        """Say goodbye; call it once, when there is nothing left to do together."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _together(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except RuntimeError as error:
            raise TrainingError(
                f"process {self.rank} of {self.size} has lost another, whose message says why"
            ) from error


ALONE = Ranks()


def join() -> Ranks:
    """Meet the other processes, if `torchrun` started this one; else `ALONE`.

    Raises:
        TrainingError: The others cannot be reached.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        return ALONE
    # Readings and figures of the host go over gloo, gradients on a GPU over nccl.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"torchrun: this process could not meet the others: {error}") from None
    return Ranks(dist.get_rank(), dist.get_world_size(), dist.get_node_local_rank(fallback_rank=0))
