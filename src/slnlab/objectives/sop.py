"""Sparse over-parameterisation (Liu, Zhu, Qu & You, 2022): the label noise is learned beside the network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.objectives._softmax import softmax
from slnlab.processes.distributed import gather, world_size
from slnlab.samples import SampleTable
from slnlab.streams import Streams

INITIAL = 1e-8
"""Standard deviation of the initial u and v. It is small, so that gradient descent finds sparse values."""

CLIP = 1e-4
"""Lower bound of P."""


class SampleNoise(NamedTuple):
    """The parameters of some samples. A backward pass leaves gradients in them."""

    rows: Tensor
    """Rows of the sample table (B,)."""
    u: Tensor
    """(B,)."""
    v: Tensor
    """(B, C)."""


class SOP:
    """Loss with learned label noise: each sample has parameters u_i (a number) and v_i (C).

    With y one-hot, U = clip(u²·y, 0, 1), V = clip(v²·(1 − y), 0, 1) and sg = stop gradient,

        P = max(S + U − sg(V), 1e-4), divided by its sum, clipped to [1e-4, 1]
        loss_i = −Σ_c y_c log P_c + ‖onehot(argmax f) + U − V − y‖².

    Equations 4 to 6 of the paper, as in the authors' code. The network learns from the first term, v from the second,
    u from both. u and v take plain gradient steps at constant rates, without momentum or weight decay. The gradient is
    that of the *mean* over the batch, so the rates belong to a batch size. The columns `sop_u` (N,) and `sop_v` (N, C)
    float32 hold u and v.

    >>> from slnlab import SampleTable
    >>> table = SampleTable(torch.tensor([2, 0, 1]), num_classes=3)
    >>> sop = SOP(table, lr_u=10, lr_v=10)
    >>> index, logits = torch.tensor([1]), torch.zeros(1, 3, requires_grad=True)
    >>> noise = sop.noise(index)
    >>> sop(noise, logits, table.targets(index)).mean().backward()
    >>> sop.step(noise)                                     # beside optimizer.step() for the network

    Args:
        table: the table of all training samples.
        lr_u, lr_v: learning rates of u and v, ≥ 0.
        seed: seed of the initial u and v.
    """

    def __init__(self, table: SampleTable, *, lr_u: float, lr_v: float, seed: int = 0) -> None:
        self.table, self.lr_u, self.lr_v = table, lr_u, lr_v
        if "sop_u" in table:
            return
        streams = Streams(seed)  # on the CPU, for the same start on every device and in every process
        for number, (name, shape) in enumerate({"sop_u": (), "sop_v": (table.num_classes,)}.items()):
            column = table.add(name, shape=shape)
            column.copy_(INITIAL * torch.randn(column.shape, generator=streams("SOP", number)))

    def noise(self, index: Tensor) -> SampleNoise:
        """Return the parameters of the samples `index` (B,), ready for a backward pass."""
        u, v = (self.table[name][index].requires_grad_() for name in ("sop_u", "sop_v"))
        return SampleNoise(index, u, v)

    def step(self, noise: SampleNoise) -> None:
        """Move u and v by one gradient step. Call it after the backward pass."""
        for name, rows, rate in (("sop_u", noise.u, self.lr_u), ("sop_v", noise.v, self.lr_v)):
            assert rows.grad is not None, "call backward first"
            # DDP averages the gradients of the network over the processes, but not those of u and v.
            index, change = noise.rows, -rate * rows.grad / world_size()
            if self.table.repeats:  # other processes may have copies of these samples
                index, change = gather(index), gather(change)
            self.table[name].index_add_(0, index, change)

    def __call__(self, noise: SampleNoise, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (B,). Only the first term uses `targets` (B, C); the rest uses the unperturbed targets."""
        return self.with_explained(noise, logits, targets)[0]

    def with_explained(self, noise: SampleNoise, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the losses (B,) and P (B, C)."""
        labels = self.table.targets(noise.rows)
        u = (noise.u.unsqueeze(1) ** 2 * labels).clamp(0, 1)
        v = (noise.v**2 * (1 - labels)).clamp(0, 1)
        explained = (softmax(logits) + u - v.detach()).clamp(min=CLIP)
        explained = (explained / explained.sum(1, keepdim=True)).clamp(CLIP, 1)
        predicted = one_hot(logits.argmax(1), logits.shape[1])
        return -(targets * explained.log()).sum(1) + ((predicted + u - v - labels) ** 2).sum(1), explained
