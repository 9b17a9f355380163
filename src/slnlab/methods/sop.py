"""Sparse over-parameterisation (Liu, Zhu, Qu & You, 2022): the label noise is learned beside the network."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork, softmax
from slnlab.processes.distributed import world_size
from slnlab.streams import Streams

INITIAL = 1e-8
"""Standard deviation of u and v at the beginning: so small that gradient descent finds sparse ones."""

CLIP = 1e-4


class SOP(SingleNetwork):
    """Each sample has parameters u_i (a number) and v_i (C) of its own that may explain its label away.

    With y one-hot, U = clip(u²·y, 0, 1), V = clip(v²·(1 − y), 0, 1) and sg = stop gradient,

        P = max(S + U − sg(V), 1e-4), divided by its sum, clipped to [1e-4, 1]
        loss_i = −Σ_c y_c log P_c + ‖onehot(argmax f) + U − V − y‖².

    Equations 4 to 6 of the paper, as in the authors' code. The network learns from the first term, v from the
    second, u from both. u and v take plain steps of descent at constant rates, without momentum or weight decay;
    a step is by the gradient of the *mean* over the batch, so the rates belong to a batch size. They are the columns
    `sop_u` (N,) and `sop_v` (N, C), float32, and are moved once per step of the optimiser. SLN's noise is on y in
    the first term alone.

    Args:
        network: see `SingleNetwork`.
        lr_u, lr_v: learning rates of u and v, ≥ 0.
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    in_three_epochs: ClassVar[dict[str, Any]] = {"lr_u": 1e5, "lr_v": 1e5}  # so that they leave their beginning

    def __init__(self, network: nn.Module, *, lr_u: float, lr_v: float, **options: Any) -> None:
        super().__init__(network, **options)
        self.lr_u, self.lr_v = lr_u, lr_v

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if "sop_u" in self.table:
            return
        streams = Streams(self.seed)  # on the CPU: the same start on every device and in every process
        classes = self.table.num_classes
        for number, (name, shape) in enumerate({"sop_u": (), "sop_v": (classes,)}.items()):
            column = self.table.add(name, shape=shape)
            column.copy_(INITIAL * torch.randn(column.shape, generator=streams("SOP", number)))

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        self._u = self.table["sop_u"][batch.index].requires_grad_()
        self._v = self.table["sop_v"][batch.index].requires_grad_()
        labels = self.targets(batch.index)
        u = (self._u.unsqueeze(1) ** 2 * labels).clamp(0, 1)
        v = (self._v**2 * (1 - labels)).clamp(0, 1)
        explained = (softmax(logits) + u - v.detach()).clamp(min=CLIP)
        explained = (explained / explained.sum(1, keepdim=True)).clamp(CLIP, 1)
        self.explained = explained
        said = one_hot(logits.argmax(1), logits.shape[1])
        return -(targets * explained.log()).sum(1) + ((said + u - v - labels) ** 2).sum(1)

    def before_step(self) -> None:
        super().before_step()
        for name, rows, rate in (("sop_u", self._u, self.lr_u), ("sop_v", self._v, self.lr_v)):
            assert rows.grad is not None
            # The loss was multiplied for DDP's mean, which has no part in these.
            self.table[name][self._batch.index] = rows.detach() - rate * rows.grad / world_size()
