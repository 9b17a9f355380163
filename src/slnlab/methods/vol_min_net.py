"""VolMinNet: cross entropy behind a learned transition matrix of minimal volume (Li et al., 2021)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from slnlab.analysis.transition import transition_used
from slnlab.data.batches import Batch
from slnlab.losses import expected_loss
from slnlab.methods.single_network import SingleNetwork
from slnlab.models.features import last_layer
from slnlab.objectives import LearnedTransition
from slnlab.processes.distributed import world_size
from slnlab.record.result import TransitionUsed
from slnlab.schema.kinds import NonNegative, Positive


class VolMinNet(SingleNetwork):
    """The network and a transition matrix are learned together, see `slnlab.objectives.LearnedTransition`.

    The matrix has an optimiser of its own, without weight decay, on the learning-rate schedule of the network.

    Args:
        network: its last layer is a `torch.nn.Linear` with an output per class.
        volume: weight λ of log abs(det T), ≥ 0.
        initial: value of all W at first.
        transition_lr: learning rate of W.
        transition_optimizer: "sgd" (momentum 0.9) or "adam".
        options: see `SingleNetwork`; the loss is cross entropy by definition, `class_losses` is not used.
    """

    weighs_samples: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {
        "correction.enabled": "the learned transition explains the given labels, and corrected labels lose this noise",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    def __init__(
        self,
        network: nn.Module,
        *,
        volume: NonNegative,
        initial: float,
        transition_lr: Positive,
        transition_optimizer: Literal["sgd", "adam"] = "sgd",
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.volume = volume
        self.transition_lr, self.transition_optimizer = transition_lr, transition_optimizer
        self.transition = LearnedTransition(last_layer(network).out_features, initial)

    @property
    def transition_used(self) -> TransitionUsed:
        record = self.data.noise_record
        known = record.transition_matrix if record else None
        return transition_used("learned", self.transition.matrix().detach().cpu().double(), known)

    def new_optimizers(self) -> list[Optimizer]:
        parameters = self.transition.parameters()
        if self.transition_optimizer == "adam":
            return [*super().new_optimizers(), Adam(parameters, lr=self.transition_lr)]
        return [*super().new_optimizers(), SGD(parameters, lr=self.transition_lr, momentum=0.9)]

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return expected_loss(targets, self.transition(logits))

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return super().batch_loss(batch, logits, targets) + self.volume * self.transition.log_volume() / world_size()
