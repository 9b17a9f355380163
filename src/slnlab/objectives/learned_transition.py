"""A transition matrix of small volume, learned with the network (VolMinNet; Li, Liu, Han, Niu & Sugiyama, 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid


class LearnedTransition(nn.Module):
    """Class-wise losses −log (S·T)_y with a learned T, and the logarithm of its volume.

    T is M with rows divided by their sums, M_ii = 1 and M_ij = sigmoid(W_ij): its diagonal is the largest entry of each
    row. The network learns the distribution S of the true label if abs(det T) is as small as the labels
    allow (theorem 1), so training minimises the losses + λ·log abs(det T). Give W an optimiser of its own, without
    weight decay.

    >>> transition = LearnedTransition(num_classes=3)
    >>> logits = torch.zeros(1, 3, requires_grad=True)
    >>> loss = transition(logits)[0, 2] + 1e-4 * transition.log_volume()
    >>> loss.backward()

    Args:
        num_classes: C.
        initial: value of all W at first; the authors' is −2 for 10 classes and −4.5 for 100.
    """

    def __init__(self, num_classes: int, initial: float = -2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_classes, num_classes), float(initial)))

    def log_matrix(self) -> Tensor:
        """log T (C, C), finite."""
        rows = logsigmoid(self.weight).masked_fill(torch.eye(len(self.weight), device=self.weight.device).bool(), 0.0)
        return log_softmax(rows, dim=1)

    def matrix(self) -> Tensor:
        """T (C, C), T[i, j] = P(given j | true i)."""
        return self.log_matrix().exp()

    def log_volume(self) -> Tensor:
        """log abs(det T), a scalar ≤ 0."""
        return torch.linalg.slogdet(self.matrix()).logabsdet

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (B, C) → losses (B, C) in [0, ∞), float32 or float64."""
        true = log_softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=1)
        return -torch.logsumexp(true[:, :, None] + self.log_matrix(), dim=1)
