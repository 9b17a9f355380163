"""JoCoR (Wei et al., 2020): two networks with one joint loss that includes their agreement."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.small_loss import SmallLossPair, chosen, global_ranks, keep_count
from slnlab.objectives import symmetric_divergence
from slnlab.schema.kinds import Share


class JoCoR(SmallLossPair):
    """The mean of the int((1 − R)·B) smallest of l_i = (1 − λ)(ℓ¹_i + ℓ²_i) + λ [KL(S¹_i‖S²_i) + KL(S²_i‖S¹_i)].

    Wei et al. (2020), equations 2 to 6: both networks learn from the same samples, and the gradient goes through
    every S. (One optimiser for both networks, as theirs, takes the same steps as our one for each.) A batch without
    kept samples takes no step. The column `selected` marks the kept samples.

    Args:
        networks: two, each with its own initialisation.
        co_lambda: weight λ of the agreement, in [0, 1].
        options: see `SmallLoss`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "JoCoR keeps or drops a sample by its loss, and a mixture has two",
        "sam.rho": "SAM perturbs one network towards its largest loss, and JoCoR has one loss for two networks",
        "correction.enabled": "label correction predicts with one momentum model, and JoCoR has two networks",
    }

    selections = 1

    def __init__(self, *networks: nn.Module, co_lambda: Share, **options: Any) -> None:
        super().__init__(*networks, **options)
        self.co_lambda = co_lambda

    def loss(self, batch: Batch) -> Tensor:
        outputs = self.outputs(batch)
        compared, losses = self.losses_of_both(outputs, batch)
        agreement = self.co_lambda * symmetric_divergence(*map(self.seen_by_loss, outputs))
        count = keep_count(batch.shard.total, self.forget_rate)
        joint = (1 - self.co_lambda) * (compared[0] + compared[1]) + agreement.detach()
        kept = global_ranks(joint, batch.shard) < count
        self.table.write(batch.index, selected=kept)
        return chosen((1 - self.co_lambda) * (losses[0] + losses[1]) + agreement, kept).sum() / count
