"""SIGUA (Han et al., 2020): descent on the small losses, and a weak ascent on some of the others."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.small_loss import SmallLoss, chosen, global_ranks, keep_count
from slnlab.schema.kinds import NonNegative, Share


def bad_count(rejected: int, fraction: float) -> int:
    """Number of bad samples: int(fraction · rejected), at least 1 unless one of them is 0, in [0, rejected].

    >>> bad_count(10, 0.35), bad_count(2, 0.3), bad_count(2, 0.0), bad_count(0, 0.3)
    (3, 1, 0, 0)
    """
    return max(int(fraction * rejected + 1e-9), 1) if fraction and rejected else 0


class Sigua(SmallLoss):
    """loss = mean(kept) − γ · mean(bad), one network.

    The int((1 − R)·B) samples of a batch with the smallest loss are kept, with R(e) of `ramp`; the others are rejected.
    The int(bad_fraction · rejected) rejected samples with the smallest loss are bad, at least one. The gradient
    descends on the kept and ascends, times γ, on the bad ones (Han et al., 2020, SIGUA_SL, as in the authors' code).
    No sample is bad if none is rejected, or if bad_fraction is 0 (the authors' code takes one sample then). An empty
    set contributes 0. The column `selected` marks the kept samples.

    Args:
        network: images (B, channels, H, W) → logits (B, C).
        gamma: weight γ of the ascent, ≥ 0; 0.001 in the SLN paper (appendix B.1).
        bad_fraction: share of the rejected samples that are bad, in [0, 1].
        options: see `SmallLoss`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "SIGUA descends on some samples and ascends on others, and a mixture may have one of each",
        "sam.rho": ("SAM perturbs towards a larger loss, and SIGUA's loss falls as the bad samples get worse"),
    }

    def __init__(self, network: nn.Module, *, gamma: NonNegative, bad_fraction: Share, **options: Any) -> None:
        super().__init__(network, **options)
        self.gamma, self.bad_fraction = gamma, bad_fraction

    def loss(self, batch: Batch) -> Tensor:
        logits = self.network(batch.image)
        self.observe(batch.index, logits)
        compared, losses = self.losses(logits, batch)
        size = batch.shard.total
        kept = keep_count(size, self.forget_rate)
        bad = bad_count(size - kept, self.bad_fraction)
        place = global_ranks(compared, batch.shard)
        good = place < kept
        self.table.write(batch.index, selected=good)
        down = chosen(losses, good).sum() / max(kept, 1)
        up = chosen(losses, (place >= kept) & (place < kept + bad)).sum() / max(bad, 1)
        return down - self.gamma * up
