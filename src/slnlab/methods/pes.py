"""Progressive early stopping (Bai et al., 2021): later parts of a network memorise sooner, so they stop sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.optim import SGD, Adam

from slnlab.data.batches import Batch
from slnlab.losses import expected_loss
from slnlab.methods.base import Method
from slnlab.methods.single_network import SingleNetwork
from slnlab.models.parts import parts_of
from slnlab.models.predicting import predict
from slnlab.processes.distributed import gathered
from slnlab.schema.kinds import Count, FirstEpochs, Names, Positive
from slnlab.streams import derive

PartName = Literal["last_stage", "classifier"]


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """w_c = (mean of the non-zero class counts)/n_c for labels (M,), and 0 for an empty class: (C,) float32."""
    counts = one_hot(labels, num_classes).sum(0).float()
    there = counts > 0
    return there * (counts.sum() / there.sum().clamp(min=1)) / counts.clamp(min=1)


@torch.no_grad()
def initialise_anew(modules: Iterable[nn.Module], seed: int) -> None:
    """Initialise every layer as PyTorch does, with this seed, in place; running statistics too."""
    layers = [layer for module in modules for layer in module.modules() if hasattr(layer, "reset_parameters")]
    gpus = {weight.device for layer in layers for weight in layer.parameters() if weight.is_cuda}
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        for layer in layers:
            layer.reset_parameters()  # type: ignore[operator]


class Refining(NamedTuple):
    """A step of the epoch that replaces parts."""

    part: PartName
    begins: bool
    """True for the first step with this part, which initialises the part anew."""
    last_pass: bool
    """True in the last pass over the training samples."""
    batch: Batch


class PES(SingleNetwork):
    """Cross entropy for a few epochs, then new last parts of the network, then confident samples only.

    With A the stem, B the last stage and H the classifier of the network, in epochs counted from 1:

    - up to `early_epochs`: cross entropy on all samples;
    - the next epoch: B and H are initialised anew and trained for `stage_epochs` passes over all samples, A frozen;
      then H alone is initialised anew and trained for `classifier_epochs` passes. Each has a fresh Adam of learning
      rate `refining_lr`. The schedule counts all of it as one epoch;
    - every later epoch selects the samples whose given label is the argmax of the mean softmax (eval mode) of two
      augmented views. It trains on them with class-weighted cross entropy, Σ w_y ℓ / Σ w_y over the batch, with
      `class_weights` of the selected samples. A single selected sample makes no step.

    (Bai et al., 2021, section 3; details as in their code.) The main optimiser of that code keeps the former
    parameters, so B and H get no further update: `replaced_parts="frozen"`. With "trained", it trains the new ones too,
    without former optimiser state. Batch norm's running statistics also move in frozen parts. The momentum model
    follows every step, also those of Adam. SLN's noise applies in every phase, SAM in all but the refining. The column
    `selected` marks the samples trained on; from the first selection on, `loss` and `prediction` are those of its mean
    softmax.

    Args:
        network: see `SingleNetwork`.
        early_epochs: number of epochs T1 of cross entropy, ≥ 0.
        stage_epochs, classifier_epochs: numbers of passes T2 and T3, ≥ 1.
        refining_lr: learning rate of Adam in these passes, > 0.
        replaced_parts: "frozen" or "trained": B and H in later epochs.
        last_stage, classifier: names of the modules of B and of H; None: see `slnlab.models.parts`.
        options: see `SingleNetwork`; `class_losses` is cross entropy.

    Raises:
        ConfigError: the network has no such parts.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "PES selects samples and weights them by the class of their label, and a mixture has two",
        "correction.enabled": (
            "PES learns from samples whose prediction equals their label, which leaves nothing to correct"
        ),
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}
    weighs_samples: ClassVar[bool] = True

    trains_in_turn = True
    in_three_epochs: ClassVar[dict[str, Any]] = {
        "early_epochs": 1,
        "stage_epochs": 2,
        "classifier_epochs": 1,
        "refining_lr": 0.01,
    }

    def __init__(
        self,
        network: nn.Module,
        *,
        early_epochs: FirstEpochs,
        stage_epochs: Count,
        classifier_epochs: Count,
        refining_lr: Positive,
        replaced_parts: Literal["frozen", "trained"],
        last_stage: Names | None = None,
        classifier: Names | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.parts = parts_of(network, last_stage, classifier)
        self.early_epochs, self.refining_lr = early_epochs, refining_lr
        repeated: dict[PartName, int] = {"last_stage": stage_epochs, "classifier": classifier_epochs}
        self.passes = [part for part, times in repeated.items() for _ in range(times)]
        self.replaced_parts = replaced_parts
        # State of the phase, which follows from the epoch and is not saved.
        self.refiner: Adam | None = None
        self.weights: Tensor | None = None
        self.observing = True

    @property
    def saved_within_epoch(self) -> bool:
        return self.current_epoch != self.early_epochs  # a step of that epoch may begin a phase

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("selected", fill=True, dtype=torch.bool)

    def modules_from(self, part: PartName) -> list[nn.Module]:
        """The modules of this part and of later parts."""
        names = self.parts.classifier if part == "classifier" else self.parts.last_stage + self.parts.classifier
        return [self.network.get_submodule(name) for name in names]

    # The phases

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        since = self.current_epoch - self.early_epochs
        self.refiner, self.weights, self.observing = None, None, since < 0
        self.network.requires_grad_(True)
        if since > 0:
            self.settle()

    def settle(self) -> None:
        """End the refining: freeze the replaced parts or train them with the rest, and select the samples."""
        self.refiner = None
        self.network.requires_grad_(True)
        if self.replaced_parts == "frozen":
            for module in self.modules_from(self.passes[0]):
                module.requires_grad_(False)
        self.select()

    def on_fit_end(self) -> None:
        self.network.requires_grad_(True)

    def batches(self, epoch: int) -> Iterable[Callable[[], Any]]:
        if epoch < self.early_epochs:
            return super().batches(epoch)
        rows = self.data.train_index
        if epoch > self.early_epochs:
            return self.data.shuffled(rows[self.table["selected"][rows]], "PES ", epoch, 0)
        return self._refining(rows, epoch)

    def _refining(self, rows: Tensor, epoch: int) -> Iterator[Callable[[], Refining]]:
        def turn(make: Callable[[], Batch], part: PartName, begins: bool, last_pass: bool) -> Refining:
            return Refining(part, begins, last_pass, make())

        for number, part in enumerate(self.passes):
            new = number == self.passes.index(part)
            for step, make in enumerate(self.data.shuffled(rows, "PES ", epoch, number)):
                yield partial(turn, make, part, new and step == 0, number + 1 == len(self.passes))

    @torch.no_grad()
    def select(self) -> None:
        """Select the confident samples and weight their classes, equally in all processes."""
        predicted: list[tuple[Tensor, Tensor]] = []
        for step, images in self.data.in_order(self.current_epoch):
            streams = [self.streams(f"PES view {number}", self.current_epoch, step) for number in (1, 2)]
            softmaxes = [predict(self.network, images.view(stream)).float().softmax(1) for stream in streams]
            predicted.append((images.index, torch.stack(softmaxes).mean(0)))
        index, mean = gathered(predicted)
        given, prediction = self.table["given"][index], mean.argmax(1)
        self.table.observe(index, mean.clamp(min=1e-12).log())
        self.table["selected"][index] = prediction == given
        self.weights = class_weights(given[prediction == given], self.table.num_classes)

    def replace(self, part: PartName) -> None:
        """Initialise this part and later parts anew, and train them alone from here on."""
        modules = self.modules_from(part)
        initialise_anew(modules, derive(self.seed, f"PES {part}"))
        self.network.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)
        replaced = [parameter for module in modules for parameter in module.parameters()]
        for optimizer in self._optimizers:
            for parameter in replaced:
                velocity = optimizer.state.pop(parameter, {}).get("momentum_buffer")
                # PyTorch's fused SGD, the default on GPUs, needs a momentum for all parameters or for none.
                if isinstance(optimizer, SGD) and optimizer.defaults["fused"] and velocity is not None:
                    optimizer.state[parameter] = {"momentum_buffer": velocity.zero_()}
        self.refiner = Adam(replaced, lr=self.refining_lr)

    # One step

    def step(self, batch: Batch | Refining) -> None:
        if not isinstance(batch, Refining):
            super().step(batch)
            return
        if batch.begins:
            self.replace(batch.part)
        self.observing = batch.last_pass
        Method.step(self, batch.batch)  # without SAM

    def observe(self, index: Tensor, logits: Tensor) -> None:
        if self.observing:
            super().observe(index, logits)

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        losses = expected_loss(targets, self.class_losses(logits))
        if self.weights is None:
            return losses
        weights = self.weights[self.table["given"][batch.index]]
        # `Batch.mean` divides by the batch size B; the divisor wanted is the sum of the weights.
        return losses * weights * (batch.shard.total / batch.shard.gather(weights).sum())

    def take_step(self, network: int | None = None) -> None:
        if self.refiner is None:
            super().take_step(network)
        else:
            self.step_instead(self.refiner)
