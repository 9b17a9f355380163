"""One network, a class-wise loss and targets with optional noise: CE, SLN, SLN-MO, SLN-MO-LC and many more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from slnlab.data.batches import Batch
from slnlab.losses import expected_loss, logit_clip
from slnlab.methods.base import Method
from slnlab.methods.mixup import mixup_partners
from slnlab.methods.sam import Decayed, SharpnessAware
from slnlab.objectives import batch_prior_penalty, softmax
from slnlab.sln import StochasticLabelNoise


class Lesson(NamedTuple):
    """Inputs and targets of a pass over a batch, equal in both passes of SAM."""

    images: Tensor
    """Inputs of the network (B, channels, H, W)."""
    targets: Tensor
    """Targets of the loss (B, C)."""
    seen: Tensor
    """Rows of the sample table (B,) with the larger share in these images."""


class SingleNetwork(Method):
    """Mini-batch descent on ⟨t + σ·z, L(S)⟩, the paper's equation (3) for any class-wise loss L.

    With σ = 0 this is the loss itself: `method=ce`. The momentum model and label correction are callbacks; label
    correction sets `sln.sigma` to 0 and rewrites rows of the sample table, independently of the method.

    A subclass overrides `objective` for another loss and `targets` for other targets; SLN, mixup and SAM are included.
    It writes its state per sample in `remember`, which each step calls once. `objective` writes nothing, and a step
    calls it once per pass.

    Args:
        network: images (B, channels, H, W) → logits (B, C).
        class_losses: logits (B, C) → the loss each class would incur (B, C).
        sigma: standard deviation of the stochastic label noise, ≥ 0.
        mixup: α of mixup's Beta(α, α); 0: off. See `slnlab.methods.mixup`.
        sam: radius ρ of sharpness-aware minimisation; 0: off. See `slnlab.methods.sam`.
        sam_decay_in_ascent, sam_decay_in_step: see `slnlab.methods.sam`.
        logit_clip: largest norm τ of the logits that the loss sees; 0: off. See `slnlab.losses.logit_clip`.
        class_balance: strength of KL(uniform ‖ mean softmax of the batch), added to the loss; 0: off.
        options: see `Method`.
    """

    weighs_samples: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        *,
        class_losses: Callable[[Tensor], Tensor],
        sigma: float = 0.0,
        mixup: float = 0.0,
        sam: float = 0.0,
        sam_decay_in_ascent: bool = True,
        sam_decay_in_step: Decayed = "perturbed",
        logit_clip: float = 0.0,
        class_balance: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.class_losses = class_losses
        self.sln = StochasticLabelNoise(sigma)
        self.mixup = mixup
        self.sam = SharpnessAware(sam, sam_decay_in_ascent, sam_decay_in_step) if sam else None
        self.logit_clip = logit_clip
        self.class_balance = class_balance

    # What subclasses override

    def targets(self, index: Tensor) -> Tensor:
        """The unperturbed targets (B, C) of these samples; label correction has already rewritten them."""
        return self.table.targets(index)

    def remember(self, batch: Batch, logits: Tensor) -> None:
        """Update the state or the selection of these samples. Called once per optimiser step, before `objective`.

        Args:
            batch: as for `objective`.
            logits: (B, C), as for `objective`, without gradient; `self.targets(batch.index)` are the unperturbed
                targets. A method whose lesson has more images, or whose `outputs` have more columns, gets them all.
        """

    def outputs(self, images: Tensor) -> Tensor:
        """The outputs (…, C + M) for the inputs (…) of a lesson; the first C columns are logits.

        A method with further outputs appends M columns, and gets them in `batch_loss` and `objective`. Writes nothing.
        """
        logits: Tensor = self.network(images)
        return logits

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, (B,). Writes nothing: SAM calls it twice per step.

        Args:
            batch: rows of the sample table, and their images before mixup.
            logits: (B, C), of the mixed images with mixup, clipped with LogitClip; the `outputs` of a method that
                appends columns.
            targets: (B, C): `targets`, mixed, with SLN's noise.
        """
        return expected_loss(targets, self.class_losses(logits))

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        """This process's share of the loss, a scalar: the mean of `objective`, plus terms of the whole batch.

        Samples with weights (`weighs_samples`) count by their weight; the mean is over the batch size.
        """
        losses = self.objective(batch, logits, targets)
        if "sample_weight" in self.table:
            losses = losses * self.table["sample_weight"][batch.index]
        return batch.mean(losses)

    def attached(self, batch: Batch) -> Batch:
        """The batch with the method's trainable parameters of its samples, which collect gradients in one pass."""
        return batch

    def before_step(self, batch: Batch) -> None:
        """Called between the gradients and the optimiser's step; `batch` is that of the pass."""

    # One optimiser step

    @property
    def stepping(self) -> Optimizer:
        """The optimiser that the next step takes."""
        return self._optimizers[0]

    def step(self, batch: Batch) -> None:
        batch = self.attached(batch)
        self._differentiate(batch)
        if self.sam:
            batch = self.attached(batch)
            with self.sam.perturbed(self.network, self.stepping):
                self._differentiate(batch, again=True)
        self.before_step(batch)
        self.take_step()

    def step_instead(self, optimizer: Optimizer) -> None:
        """Clip the gradients and step another optimiser of the network's weights.

        The network's own optimiser moves nothing without gradients, but the momentum model follows its steps.
        """
        self.clip()
        optimizer.step()
        own = self._optimizers[0]
        own.zero_grad(set_to_none=True)
        own.step()

    def _differentiate(self, batch: Batch, again: bool = False) -> None:
        with self.forward_pass():
            loss = self.loss(batch, again=True) if again else self.loss(batch)
        self.differentiate(loss)

    def loss(self, batch: Batch, again: bool = False) -> Tensor:
        """See `Method`.

        Args:
            batch: rows of the sample table, and their images.
            again: True for SAM's second pass over a batch, which observes and remembers nothing.
        """
        lesson = self.lesson(batch)
        if self.sam:  # so that dropout drops the same in both passes
            self.seed_globally("SAM", self.steps)
        outputs = self.outputs(lesson.images)
        if not again:
            self.observe(lesson.seen, outputs.detach()[: len(batch.index), : self.table.num_classes])
        outputs = self._clipped(outputs)
        if not again:
            self.remember(batch, outputs.detach())
        loss = self.batch_loss(batch, outputs, lesson.targets)
        if self.class_balance:
            likely = softmax(outputs[: len(batch.index), : self.table.num_classes])
            loss = loss + self.class_balance * batch_prior_penalty(likely, batch.shard.total)
        return loss

    def lesson(self, batch: Batch) -> Lesson:
        """The batch, mixed with mixup, with SLN's noise on its targets."""
        images, targets, seen = batch.image, self.targets(batch.index), batch.index
        if self.mixup:
            share, index, partners = mixup_partners(batch, self.mixup, self.streams, self.steps)
            images = share * images + (1 - share) * partners
            targets = share * targets + (1 - share) * self.targets(index)
            seen = seen if share >= 0.5 else index
        if self.sln.sigma:
            targets = self.sln(targets, noise=self.normal("SLN", batch))
        return Lesson(images, targets, seen)

    def _clipped(self, outputs: Tensor) -> Tensor:
        """The outputs with clipped logits; columns of the method's own stay as they are."""
        if not self.logit_clip:
            return outputs
        logits, own = outputs.tensor_split([self.table.num_classes], 1)
        return torch.cat([logit_clip(logits, self.logit_clip), own], 1)
