"""One network, a class-wise loss, and targets that may be perturbed: CE, SLN, SLN-MO, SLN-MO-LC, and many more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from slnlab.data.batches import Batch
from slnlab.losses import cross_entropy, expected_loss
from slnlab.methods.base import Method
from slnlab.methods.mixup import mixup_partners
from slnlab.methods.sam import Decayed, SharpnessAware
from slnlab.sln import StochasticLabelNoise


class SingleNetwork(Method):
    """Mini-batch descent on ⟨t + σ·z, L(S)⟩, the paper's equation (3) for any class-wise loss L.

    With σ = 0 this is the loss itself: `method=ce`. The momentum model and label correction are callbacks; label
    correction sets `sln.sigma` to 0 and rewrites rows of the sample table, and nothing here knows of it.

    A method that differs in its loss writes `objective`, one that differs in its targets writes `targets`; SLN,
    mixup and SAM come with it. What it remembers of its samples in the table it writes only where `self.advancing`,
    because SAM computes a batch's loss twice.

    Args:
        network: images (B, channels, H, W) → logits (B, C).
        class_losses: logits (B, C) → the loss each class would incur (B, C).
        sigma: standard deviation of the stochastic label noise, ≥ 0.
        mixup: α of mixup's Beta(α, α); 0: off. See `slnlab.methods.mixup`.
        sam: radius ρ of sharpness-aware minimisation; 0: off. See `slnlab.methods.sam`.
        sam_decay_in_ascent, sam_decay_in_step: see `slnlab.methods.sam`.
        options: see `Method`.
    """

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
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.class_losses = class_losses
        self.sln = StochasticLabelNoise(sigma)
        self.mixup = mixup
        self.sam = SharpnessAware(sam, sam_decay_in_ascent, sam_decay_in_step) if sam else None
        self.advancing = True
        """False in SAM's second pass over a batch: nothing is to be remembered."""

    def objective(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each sample, (B,).

        Args:
            batch: rows of the sample table, and their images as they are without mixup.
            logits: (B, C), of the mixed images where there is mixup.
            targets: (B, C), what the loss is to weigh: those of `targets`, mixed, and with SLN's noise. Selection
                and whatever is remembered belong to the unperturbed `self.targets(batch.index)`.
        """
        return expected_loss(targets, self.class_losses(logits))

    def targets(self, index: Tensor) -> Tensor:
        """The unperturbed targets (B, C) of these samples; label correction has already rewritten them."""
        return self.table.targets(index)

    def logits(self, batch: Batch, images: Tensor) -> Tensor:
        """What the network says (B, C) of the batch's images, which may have been mixed."""
        logits: Tensor = self.network(images)
        return logits

    def loss(self, batch: Batch) -> Tensor:
        self._batch = batch
        if self.sam:  # so that dropout drops the same in both passes
            self.seed_globally("SAM", self.steps)
        images, targets, seen = batch.image, self.targets(batch.index), batch.index
        if self.mixup:
            share, index, partners = mixup_partners(batch, self.mixup, self.streams, self.steps)
            images = share * images + (1 - share) * partners
            targets = share * targets + (1 - share) * self.targets(index)
            seen = seen if share >= 0.5 else index  # whose image it mostly is
        logits = self.logits(batch, images)
        if self.advancing:
            self.observe(seen, logits)
        if self.sln.sigma:
            targets = self.sln(targets, noise=self.normal("SLN", batch))
        return batch.mean(self.objective(batch, logits, targets))

    def before_step(self) -> None:
        if self.sam is None:
            return
        batch = self._batch
        with self.sam.at_the_worst(self.network, self._optimizers[0]):
            self.advancing = False
            with self.trainer.precision_plugin.forward_context():
                loss = self.loss(batch)
            self.differentiate(loss)
            self.advancing = True


def softmax(logits: Tensor) -> Tensor:
    """S (B, C) in float32, or float64 if the logits are; half precision has too few digits to take logarithms of."""
    return (-cross_entropy(logits)).exp()
