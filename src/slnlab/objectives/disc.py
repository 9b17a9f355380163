"""DISC (Li, Han, Shan & Chen, 2023): three sets of samples, by a threshold of each sample's own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.losses import cross_entropy, expected_loss, gce
from slnlab.objectives._softmax import softmax
from slnlab.samples import SampleTable

CLEAN, HARD, PURIFIED = 1, 2, 3
"""Values of the column `disc_set`; 0: the sample is not learned from."""

HIGHEST = 0.99
"""Upper bound of the confidence that a purified sample needs."""


class DISC:
    """Sets of samples, and the loss of each sample, from two views in training.

    `begin`, at the start of an epoch, compares what the epoch before has seen of each sample with the thresholds τ_w
    and τ_s of its views. With w = [p_w,y > τ_w] and s = [p_s,y > τ_s] it is clean if both hold, hard if one does.
    Any other sample is purified if the largest entry of (p_w + p_s)/2 exceeds min((τ_w + τ_s)/2 + σ, 0.99), and that
    class becomes its label. Then τ ← m·τ + (1 − m)·max_c p_c for either view, from 1/N. A sample that the epoch did not
    see keeps its set. The loss of a sample is

        CE(weak) + CE(strong) if it is clean, or in the warm-up,
        λ_h·(GCE(weak) + GCE(strong)), q = 0.7, if it is hard, else 0.

    >>> from slnlab import SampleTable
    >>> table = SampleTable(torch.tensor([2, 0, 1]), num_classes=3)
    >>> disc = DISC(table, warm_up_epochs=0)
    >>> index, weak, strong = torch.tensor([1]), torch.randn(1, 3, requires_grad=True), torch.randn(1, 3)
    >>> disc.begin(epoch=0)                                  # at the start of each epoch, from 0
    >>> disc.remember(index, weak, strong)                   # once per step
    >>> disc(index, weak, strong, disc.targets(index)).mean().backward()

    The columns of the table are `disc_set` (N,), `disc_label` (N,), the label of a purified sample, `disc_threshold`
    (N, 2), and for the current epoch `disc_given` (N, 2), `disc_largest` (N, 2), `disc_mean` (N,), `disc_class` (N,).

    Args:
        table: the table of all training samples.
        warm_up_epochs: number of epochs in which all samples are clean.
        decay: m in [0, 1).
        margin: σ ≥ 0.
        hard_weight: λ_h ≥ 0.
    """

    def __init__(
        self,
        table: SampleTable,
        *,
        warm_up_epochs: int,
        decay: float = 0.99,
        margin: float = 0.5,
        hard_weight: float = 1.0,
    ) -> None:
        self.table, self.warm_up_epochs = table, warm_up_epochs
        self.decay, self.margin, self.hard_weight = decay, margin, hard_weight
        table.add("disc_set", CLEAN, dtype=torch.int8)
        table.add("disc_label", -1, dtype=torch.int64)
        table.add("disc_threshold", 1 / len(table), (2,))
        table.add("disc_given", shape=(2,))
        table.add("disc_largest", -1, (2,))  # below 0: not seen in this epoch
        table.add("disc_mean")
        table.add("disc_class", -1, dtype=torch.int64)

    @torch.no_grad()
    def begin(self, epoch: int) -> None:
        """Sort the samples by what the epoch before has seen; before every epoch, counted from 0."""
        threshold, largest = self.table["disc_threshold"], self.table["disc_largest"]
        seen = largest[:, 0] >= 0
        if epoch >= self.warm_up_epochs:
            likely = (self.table["disc_given"] > threshold).sum(1)
            confident = self.table["disc_mean"] > (threshold.mean(1) + self.margin).clamp(max=HIGHEST)
            found = torch.where(likely == 2, CLEAN, torch.where(likely == 1, HARD, PURIFIED * confident))
            self.table["disc_set"].copy_(torch.where(seen, found, self.table["disc_set"]))
            self.table["disc_label"].copy_(torch.where(seen, self.table["disc_class"], self.table["disc_label"]))
        threshold.copy_(torch.where(seen.unsqueeze(1), self.decay * threshold + (1 - self.decay) * largest, threshold))
        largest.fill_(-1)

    @torch.no_grad()
    def remember(self, index: Tensor, weak: Tensor, strong: Tensor) -> None:
        """Note the predictions of the samples `index` (B,) from the logits (B, C) of their two views."""
        views = torch.stack([softmax(weak), softmax(strong)], 1).float()  # (B, 2, C)
        given = self.table["given"][index].view(-1, 1, 1).expand(-1, 2, 1)
        mean, likeliest = views.mean(1).max(1)
        self.table.write(index, disc_given=views.gather(2, given).squeeze(2), disc_largest=views.amax(2))
        self.table.write(index, disc_mean=mean, disc_class=likeliest)

    def targets(self, index: Tensor) -> Tensor:
        """The targets (B, C) of samples (B,): the table's, or the new labels of purified samples."""
        purified = (self.table["disc_set"][index] == PURIFIED).unsqueeze(1)
        labels = one_hot(self.table["disc_label"][index].clamp(min=0), self.table.num_classes)
        targets = self.table.targets(index)
        return torch.where(purified, labels.to(targets), targets)

    def learned(self, index: Tensor) -> Tensor:
        """Mask (B,) of samples (B,) in one of the sets; the method mixes these."""
        return self.table["disc_set"][index] > 0

    def __call__(self, index: Tensor, weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (B,) of the samples `index` (B,) with the logits and `targets` (B, C)."""
        kind = self.table["disc_set"][index]
        clean = expected_loss(targets, cross_entropy(weak) + cross_entropy(strong))
        hard = self.hard_weight * expected_loss(targets, gce(weak) + gce(strong))
        return torch.where(kind == CLEAN, clean, torch.where(kind == HARD, hard, torch.zeros_like(hard)))
