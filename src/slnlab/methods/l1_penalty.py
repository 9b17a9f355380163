"""A class-wise loss with an L1 penalty on the parameters: ANL (Ye et al., 2023), JAL (Wang et al., 2025)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.processes.distributed import world_size
from slnlab.schema.kinds import NonNegative


class L1Penalty(SingleNetwork):
    """A class-wise loss + δ·Σ_θ|θ|; `clip_norm` clips the gradients of this sum.

    The penalty covers all parameters, also biases and batch norm. It replaces weight decay, as in the authors' code.

    Args:
        network: see `SingleNetwork`.
        l1: weight δ of the penalty, ≥ 0.
        options: see `SingleNetwork`.
    """

    weighs_samples: ClassVar[bool] = True

    def __init__(self, network: nn.Module, *, l1: NonNegative, **options: Any) -> None:
        super().__init__(network, **options)
        self.l1 = l1

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        loss = super().batch_loss(batch, logits, targets)
        if not self.l1:
            return loss
        penalty = torch.stack(torch._foreach_norm(list(self.network.parameters()), 1)).sum()
        return loss + self.l1 * penalty / world_size()
