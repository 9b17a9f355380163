"""T-Revision (Xia et al., 2019): importance reweighting by a transition matrix, which is revised in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from slnlab.analysis.transition import transition_used
from slnlab.data.batches import Batch
from slnlab.errors import DataError
from slnlab.losses import expected_loss
from slnlab.methods.given_transition import GivenTransition
from slnlab.models.features import last_layer
from slnlab.objectives import RevisedTransition
from slnlab.record.checkpoints import best_weights, read_checkpoint
from slnlab.record.result import TransitionUsed
from slnlab.schema.kinds import FilledIn, Positive, SomeFirstEpochs


class TRevision(GivenTransition):
    """The losses of `slnlab.objectives.RevisedTransition`, in two phases after the run that estimates T̂.

    1. The network starts from the weights that estimated T̂, if T̂ is estimated. It learns for `reweighting_epochs` with
       the constant importance weights of T̂.
    2. In the later epochs Adam, new and with a small learning rate, moves the network and ΔT. The weights of T̂ + ΔT
       have gradients. Adam's learning rate is constant; the momentum model follows its steps.

    The authors' vectorised code detaches the weights in phase 2, so that ΔT never moves; this is the paper's formula.
    Their phase 2 starts from the epoch of phase 1 that is best on held-out noisy labels; here it starts from the last.
    Their Adam has a weight decay of 1e-4; here it has none.

    Args:
        network: its last layer is a `torch.nn.Linear` with an output per class.
        reweighting_epochs: number of epochs with T̂ alone, ≥ 1.
        revision_lr: learning rate of Adam, > 0.
        start_from: checkpoint of the run that estimated T̂, whose best weights the network starts from; `slnlab.train`
            fills it in.
        options: see `GivenTransition`.

    Raises:
        ConfigError: in `setup`: see `GivenTransition`; or a class never keeps its label.
        DataError: in `setup`: a file cannot be read.
    """

    trains_in_turn: ClassVar[bool] = True
    weighs_samples: ClassVar[bool] = True
    refuses: ClassVar[dict[str, str]] = {
        "correction.enabled": "importance weights assume labels with noise T, and corrected labels lose this noise",
        "init.from": "T-Revision starts from the weights of the network that estimates its transition matrix",
    }
    in_three_epochs: ClassVar[dict[str, Any]] = {"transition": "known", "reweighting_epochs": 1, "revision_lr": 0.01}

    def __init__(
        self,
        network: nn.Module,
        *,
        reweighting_epochs: SomeFirstEpochs,
        revision_lr: Positive,
        start_from: FilledIn = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.reweighting_epochs, self.revision_lr, self.start_from = reweighting_epochs, revision_lr, start_from
        self.revised = RevisedTransition(last_layer(network).out_features)
        self.revising = False  # follows from the epoch and is not saved

    @property
    def transition_used(self) -> TransitionUsed:
        return transition_used("learned", self.revised.matrix().detach().cpu().double(), self.known_transition)

    def take_transition(self, matrix: Tensor) -> None:
        self.revised.start(matrix)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.start_from is not None:
            checkpoint = read_checkpoint(Path(self.start_from))
            try:
                self.network.load_state_dict(best_weights(checkpoint))
            except (KeyError, RuntimeError) as error:
                raise DataError(f"{self.start_from}: is no run that estimates T̂ for this network ({error})") from error

    def new_optimizers(self) -> list[Optimizer]:
        (own,) = super().new_optimizers()
        return [own, Adam([*self.network.parameters(), *self.revised.parameters()], lr=self.revision_lr)]

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        if not isinstance(configured, tuple):
            return configured
        optimizers, (schedule, _) = configured
        return optimizers, [schedule]

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.revising = self.current_epoch >= self.reweighting_epochs

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        return expected_loss(targets, self.revised(logits, self.revising))

    @property
    def stepping(self) -> Optimizer:
        return self._optimizers[-1] if self.revising else super().stepping

    def take_step(self, network: int | None = None) -> None:
        if self.revising:
            self.step_instead(self.stepping)
        else:
            super().take_step(0)
