"""Active negative loss as it is trained (Ye et al., 2023): with an L1 penalty on the parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slnlab.data.datamodule import Batch
from slnlab.distributed import world_size
from slnlab.methods.single_network import SingleNetwork


class ActiveNegativeLoss(SingleNetwork):
    """A class-wise loss + δ·Σ_θ|θ|, and gradients, the penalty's included, clipped to a norm.

    The penalty is on all parameters, biases and batch norm too, and takes the place of weight decay, as in the
    authors' code. With δ = 0 it is how active passive losses (Ma et al., 2020) are trained: `method=nce_rce`.

    Args:
        network: see `SingleNetwork`.
        l1: δ ≥ 0.
        clip_norm: the largest norm of all gradients together, > 0.
        options: see `SingleNetwork`.
    """

    def __init__(self, network: nn.Module, *, l1: float, clip_norm: float, **options: Any) -> None:
        super().__init__(network, **options)
        self.l1, self.clip_norm = l1, clip_norm

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        if not self.l1:
            return loss
        penalty = torch.stack(torch._foreach_norm(list(self.network.parameters()), 1)).sum()
        return loss + self.l1 * penalty / world_size()

    def before_step(self) -> None:
        super().before_step()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
