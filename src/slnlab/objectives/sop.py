"""Sparse over-parameterisation (Liu, Zhu, Qu & You, 2022): the label noise is learned beside the network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.objectives._softmax import softmax
from slnlab.processes.distributed import world_size
from slnlab.samples import SampleTable
from slnlab.streams import Streams

INITIAL = 1e-8
"""Standard deviation of u and v at the beginning: so small that gradient descent finds sparse ones."""

CLIP = 1e-4


class SampleNoise(NamedTuple):
    """The parameters of some samples, whose gradients a backward pass leaves in them."""

    rows: Tensor
    """Of the sample table (B,)."""
    u: Tensor
    """(B,)."""
    v: Tensor
    """(B, C)."""


class SOP:
    """Each sample has parameters u_i (a number) and v_i (C) of its own that may explain its label away.

    With y one-hot, U = clip(u²·y, 0, 1), V = clip(v²·(1 − y), 0, 1) and sg = stop gradient,

        P = max(S + U − sg(V), 1e-4), divided by its sum, clipped to [1e-4, 1]
        loss_i = −Σ_c y_c log P_c + ‖onehot(argmax f) + U − V − y‖².

    Equations 4 to 6 of the paper, as in the authors' code. The network learns from the first term, v from the
    second, u from both. u and v take plain steps of descent at constant rates, without momentum or weight decay;
    a step is by the gradient of the *mean* over the batch, so the rates belong to a batch size. They are the columns
    `sop_u` (N,) and `sop_v` (N, C), float32.

    >>> from slnlab import SampleTable
    >>> table = SampleTable(torch.tensor([2, 0, 1]), num_classes=3)
    >>> sop = SOP(table, lr_u=10, lr_v=10)
    >>> index, logits = torch.tensor([1]), torch.zeros(1, 3, requires_grad=True)
    >>> noise = sop.noise(index)
    >>> sop(noise, logits, table.targets(index)).mean().backward()
    >>> sop.step(noise)                                     # as an optimiser's, which steps the network

    Args:
        table: of all training samples.
        lr_u, lr_v: learning rates of u and v, ≥ 0.
        seed: of their first values.
    """

    def __init__(self, table: SampleTable, *, lr_u: float, lr_v: float, seed: int = 0) -> None:
        self.table, self.lr_u, self.lr_v = table, lr_u, lr_v
        if "sop_u" in table:
            return
        streams = Streams(seed)  # on the CPU: the same start on every device and in every process
        for number, (name, shape) in enumerate({"sop_u": (), "sop_v": (table.num_classes,)}.items()):
            column = table.add(name, shape=shape)
            column.copy_(INITIAL * torch.randn(column.shape, generator=streams("SOP", number)))

    def noise(self, index: Tensor) -> SampleNoise:
        """The parameters of the samples `index` (B,), to learn."""
        u, v = (self.table[name][index].requires_grad_() for name in ("sop_u", "sop_v"))
        return SampleNoise(index, u, v)

    def step(self, noise: SampleNoise) -> None:
        """Take the parameters' step down their gradients."""
        for name, rows, rate in (("sop_u", noise.u, self.lr_u), ("sop_v", noise.v, self.lr_v)):
            assert rows.grad is not None, "call backward first"
            # Of the mean over all processes' batches: DDP takes the mean of the network's gradients, not of these.
            self.table[name][noise.rows] = rows.detach() - rate * rows.grad / world_size()

    def __call__(self, noise: SampleNoise, logits: Tensor, targets: Tensor) -> Tensor:
        """The losses (B,). `targets` (B, C) are y in the first term alone; all else is of the unperturbed targets."""
        return self.with_explained(noise, logits, targets)[0]

    def with_explained(self, noise: SampleNoise, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The losses (B,), and P (B, C)."""
        labels = self.table.targets(noise.rows)
        u = (noise.u.unsqueeze(1) ** 2 * labels).clamp(0, 1)
        v = (noise.v**2 * (1 - labels)).clamp(0, 1)
        explained = (softmax(logits) + u - v.detach()).clamp(min=CLIP)
        explained = (explained / explained.sum(1, keepdim=True)).clamp(CLIP, 1)
        said = one_hot(logits.argmax(1), logits.shape[1])
        return -(targets * explained.log()).sum(1) + ((said + u - v - labels) ** 2).sum(1), explained
