"""Bootstrapping (Reed et al., 2015): the target contains the network's own prediction."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.methods.single_network import SingleNetwork
from slnlab.objectives import bootstrapping
from slnlab.schema.kinds import Share


class Bootstrapping(SingleNetwork):
    """The target contains the network's own prediction, see `slnlab.objectives.bootstrapping`.

    Args:
        network: see `SingleNetwork`.
        prediction: "soft": the network's softmax; "hard": the one-hot of its argmax.
        label_weight: share β of the given label in the target, in [0, 1].
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    def __init__(
        self, network: nn.Module, *, prediction: Literal["soft", "hard"], label_weight: Share, **options: Any
    ) -> None:
        super().__init__(network, **options)
        self.prediction, self.label_weight = prediction, label_weight

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return bootstrapping(logits, targets, self.label_weight, self.prediction)
