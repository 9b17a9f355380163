"""SIGUA (Han et al., 2020): learn from the small losses, and unlearn a little from the others."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.small_loss import SmallLoss, chosen, global_ranks, keep_count
from slnlab.schema.kinds import NonNegative, Share


def bad_count(rejected: int, fraction: float) -> int:
    """int(fraction · rejected), but at least 1 unless one of them is 0: how many are unlearned, in [0, rejected].

    >>> bad_count(10, 0.35), bad_count(2, 0.3), bad_count(2, 0.0), bad_count(0, 0.3)
    (3, 1, 0, 0)
    """
    return max(int(fraction * rejected + 1e-9), 1) if fraction and rejected else 0


class Sigua(SmallLoss):
    """loss = mean(kept) − γ · mean(bad), one network.

    Kept are the int((1 − R)·B) samples of smallest loss of the batch, with R(e) of `ramp`; bad are, of the rejected,
    the int(bad_fraction · rejected) of smallest loss, but at least one. The gradient goes down the first and γ times up
    the second (Han et al., 2020, SIGUA_SL, as in their code). Where nothing is rejected, or with a bad_fraction of 0,
    nothing is bad; their code takes one sample for 0 too. A set that is empty contributes 0. The column `selected`
    marks the kept.

    Args:
        network: images (B, channels, H, W) → logits (B, C).
        gamma: γ ≥ 0; 0.001 in the SLN paper (appendix B.1).
        bad_fraction: in [0, 1].
        options: see `SmallLoss`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "SIGUA learns some samples and unlearns the others, and a mixture may be of both",
        "sam.rho": (
            "SAM looks for the worst loss nearby, and SIGUA's is the better the worse the rejected samples fare"
        ),
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
        self.table["selected"][batch.index] = good
        down = chosen(losses, good).sum() / max(kept, 1)
        up = chosen(losses, (place >= kept) & (place < kept + bad)).sum() / max(bad, 1)
        return down - self.gamma * up
