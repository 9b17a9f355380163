"""Bootstrapping (Reed et al., 2015): the network's own prediction is a part of the target."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn.functional import one_hot

from slnlab.data.batches import Batch
from slnlab.losses import cross_entropy
from slnlab.methods.single_network import SingleNetwork
from slnlab.schema.kinds import Share

SMALLEST = math.log(1e-7)
"""log S is not less than this."""


class Bootstrapping(SingleNetwork):
    """−Σ_c (β·t_c + (1 − β)·p_c)·log S_c, p the network's own prediction.

    Soft, p = S *with* its gradient, so (1 − β) times the entropy is a part of the loss (equation 6 of the paper);
    hard, p = onehot(argmax S) (equation 7). S is clipped at 1e-7.

    Args:
        network: see `SingleNetwork`.
        prediction: p.
        label_weight: β in [0, 1].
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    def __init__(
        self, network: nn.Module, *, prediction: Literal["soft", "hard"], label_weight: Share, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.prediction, self.label_weight = prediction, label_weight

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        log_softmax = (-cross_entropy(logits)).clamp(min=SMALLEST)
        own = log_softmax.exp() if self.prediction == "soft" else one_hot(logits.argmax(1), logits.shape[1])
        return -((self.label_weight * targets + (1 - self.label_weight) * own) * log_softmax).sum(1)
