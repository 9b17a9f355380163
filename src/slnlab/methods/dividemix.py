"""DivideMix (Li, Socher & Hoi, 2020): split the samples by loss, and learn from the parts semi-supervised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from slnlab.analysis.mixture import fit_loss_mixture
from slnlab.data.batches import Batch, Images, drawn, in_batches
from slnlab.losses import cross_entropy, expected_loss
from slnlab.methods.base import Method
from slnlab.methods.ensemble import TWO_NETWORKS, TWO_ROWS
from slnlab.models.predicting import predict
from slnlab.objectives import batch_prior_penalty, co_guess, co_refine, confidence_penalty
from slnlab.objectives.mixmatch import linear_ramp, mixed, mixing, mixmatch_loss
from slnlab.processes.batching import FEWEST
from slnlab.processes.distributed import gathered, shard
from slnlab.samples import margins
from slnlab.schema.kinds import Count, CountOrZero, FirstEpochs, NonNegative, Positive, Rate


class Turn(NamedTuple):
    """One step of one network."""

    number: int
    """Number of the network to train: 0 or 1."""
    labelled: Images
    """L ≥ 2 images of the global batch."""
    unlabelled: Images
    """U ≥ 2 images, or none if all samples are labelled."""
    progress: float
    """Epochs since the warm-up, with fractions."""


class DivideMix(Method):
    """Cross entropy at first; then each epoch fits two loss mixtures and trains one network after the other.

    Li et al. (2020), algorithm 1, with MixMatch. At the start of every epoch after the warm-up, `fit_loss_mixture`
    splits each network's losses of all training samples (eval mode, images as they are, given labels). The
    probabilities that labels are right are the columns `clean` and `clean_2` of the sample table. Then network 1
    trains with `clean_2`, and after it network 2 with `clean`. A step takes half a batch of labelled samples and as
    many unlabelled ones, two augmented views of each. The own network predicts them in train mode, the other in eval
    mode. The columns `selected` and `selected_2` mark the samples that networks 1 and 2 take for rightly labelled.
    `loss` and `prediction` are network 1's at the split.

    A network's epoch is one pass over its labelled samples, as in the authors' code: more trusted samples make more
    steps. The last batch follows `in_batches`, so fewer than two labelled samples make no step. Unlabelled samples are
    drawn anew as often as needed, in whole batches across the end of a pass. (The authors' code begins a new pass after
    a partial batch.) A single unlabelled sample fills a batch twice; without any there is no unlabelled part.

    The weight of the unlabelled part is 0 at the start of the first epoch after the warm-up (their code counts epochs
    from 0). Both networks see the same batches in the warm-up.

    Args:
        networks: two, each with its own initialisation.
        class_losses: must be cross entropy.
        warm_up_epochs: number of epochs of cross entropy on all samples.
        warm_up_penalty: weight of the confidence penalty Σ_c S_c log S_c in the warm-up; 1 for asymmetric noise.
        threshold: a sample is labelled if its label is right with a larger probability than this.
        average_losses: number of epochs over which losses, each scaled to [0, 1], are averaged before the fit.
        temperature: temperature T of the sharpening.
        alpha: α of λ ~ Beta(α, α), drawn once per batch; the sample itself has the larger share.
        lambda_u: weight of the squared error of unlabelled samples. With 0 they still count in the prior penalty. None:
            unlabelled samples are only mixed into labelled rows, and their own rows are in no term of the loss (the
            authors' code for Clothing1M).
        lambda_u_ramp: number of epochs over which lambda_u grows from 0.
        options: see `Method`.
    """

    rows = TWO_ROWS
    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "DivideMix mixes its samples itself (MixMatch, method.alpha)",
        "sam.rho": ("SAM needs a second pass with the same targets, and DivideMix makes new targets at every step"),
        "sln.sigma": (
            "DivideMix refines and mixes its targets; the paper trains SLN first and then DivideMix without noise "
            "(init.from=sln)"
        ),
        "correction.enabled": "DivideMix corrects labels itself (co-refinement)",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}

    network_names = TWO_NETWORKS
    trains_in_turn = True
    in_three_epochs: ClassVar[dict[str, Any]] = {
        "warm_up_epochs": 1,
        "warm_up_penalty": 1.0,
        "average_losses": 2,
        "lambda_u": 25.0,
    }

    def __init__(
        self,
        *networks: nn.Module,
        class_losses: Callable[[Tensor], Tensor],
        warm_up_epochs: FirstEpochs,
        warm_up_penalty: NonNegative,
        threshold: Rate,
        average_losses: Count,
        temperature: Positive,
        alpha: Positive,
        lambda_u: NonNegative | None,
        lambda_u_ramp: CountOrZero,
        **options: Any,
    ) -> None:
        super().__init__(*networks, **options)
        self.class_losses = class_losses
        self.warm_up_epochs, self.warm_up_penalty = warm_up_epochs, warm_up_penalty
        self.threshold, self.average_losses, self.temperature = threshold, average_losses, temperature
        self.alpha, self.lambda_u, self.lambda_u_ramp = alpha, lambda_u, lambda_u_ramp

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for suffix in ("", "_2"):
            self.table.add(f"selected{suffix}", fill=1, dtype=torch.bool)
            self.table.add(f"clean{suffix}", fill=1.0)
            if self.average_losses > 1:
                self.table.add(f"losses{suffix}", shape=(self.average_losses,))

    # Warm-up

    def loss(self, batch: Batch) -> Tensor:
        targets, shares = self.table.targets(batch.index), []
        for number, network in enumerate(self.networks.values()):
            logits = network(batch.image)
            if number == 0:
                self.observe(batch.index, logits)
            shares.append(batch.mean(expected_loss(targets, self.class_losses(logits))))
            if self.warm_up_penalty:
                shares.append(self.warm_up_penalty * batch.mean(confidence_penalty(logits)))
        return torch.stack(shares).sum()

    # The split

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if self.current_epoch >= self.warm_up_epochs:
            self._split()

    @torch.no_grad()
    def _split(self) -> None:
        """Fit the loss mixtures of both networks, equally in all processes."""
        predicted: list[list[tuple[Tensor, ...]]] = [[] for _ in self.networks]
        for index, image in self.data.passes("clean", "split", self.current_epoch):
            for batches, network in zip(predicted, self.networks.values(), strict=True):
                logits = predict(network, image).float()
                given = self.table["given"][index]
                losses = functional.cross_entropy(logits, given, reduction="none")
                batches.append((index, losses, logits.argmax(1), margins(logits, given)))
        for number, batches in enumerate(predicted):
            index, losses, prediction, margin = gathered(batches)
            if number == 0:
                self.table.note(index, losses, prediction, margin)
            suffix = "" if number == 0 else f"_{number + 1}"
            if self.average_losses > 1:
                losses = self._averaged(f"losses{suffix}", index, losses)
            # A mean of several epochs' scaled losses is not scaled a second time.
            clean = fit_loss_mixture(losses, scale=self.average_losses == 1).clean.to(index.device)
            self.table[f"clean{suffix}"][index] = clean
            self.table[f"selected{suffix}"][index] = clean > self.threshold

    def _averaged(self, column: str, index: Tensor, losses: Tensor) -> Tensor:
        low, high = losses.min(), losses.max()
        scaled = (losses - low) / (high - low).clamp(min=1e-12)
        self.table[column][index] = torch.cat([self.table[column][index][:, 1:], scaled.unsqueeze(1)], 1)
        epochs = min(self.average_losses, self.current_epoch - self.warm_up_epochs + 1)
        return self.table[column][index][:, -epochs:].mean(1)

    def batches(self, epoch: int) -> Iterable[Callable[[], Any]]:
        if epoch < self.warm_up_epochs:
            return super().batches(epoch)
        return [turn for number in (0, 1) for turn in self._turns(epoch, number)]

    def _turns(self, epoch: int, number: int) -> Iterator[Callable[[], Turn]]:
        rows = self.data.train_index
        is_labelled = self.table["selected_2" if number == 0 else "selected"][rows]
        labelled, unlabelled = rows[is_labelled], rows[~is_labelled]
        half = max(self.data.batch_size // 2, FEWEST)
        order = self.streams("labelled", epoch, number)
        labelled = labelled[torch.randperm(len(labelled), generator=order, device=rows.device)]
        parts = in_batches(labelled, half)
        steps = len(parts)
        size = max(min(half, len(unlabelled)), FEWEST) if len(unlabelled) else 0
        others = drawn(unlabelled, steps * size, self.streams("unlabelled", epoch, number))
        batches: list[Tensor] = []
        for step in range(steps):
            batches += [parts[step], others[step * size : (step + 1) * size]]
        read = self.data.reading(batches, whole=True)
        for step in range(steps):
            yield partial(self._turn, read, number, step, epoch - self.warm_up_epochs + step / steps)

    def _turn(self, read: Callable[[int], Images], number: int, step: int, progress: float) -> Turn:
        return Turn(number, read(2 * step), read(2 * step + 1), progress)

    # MixMatch

    def step(self, batch: Batch | Turn) -> None:
        if isinstance(batch, Batch):
            super().step(batch)
            return
        with self.forward_pass():
            loss = self.mixmatch(batch)
        self.descend(loss, batch.number)

    def mixmatch(self, turn: Turn) -> Tensor:
        """This process's share of −mean Σ t log S + λ_u · ramp · mean (S − t)² + prior penalty; a scalar.

        The first mean is over the labelled rows, the second over the unlabelled rows and the classes. The penalty is
        that of all rows, or of the labelled rows if λ_u is None. Every process augments the whole batch, and predicts
        and trains on its part.
        """
        labelled, unlabelled = (
            [images.view(self.streams(f"{name} view {view}", self.steps)) for view in (1, 2)]
            for name, images in (("labelled", turn.labelled), ("unlabelled", turn.unlabelled))
        )
        own, other = list(self.networks.values())[:: 1 if turn.number == 0 else -1]
        refined, guessed = self._targets(turn, own, other, labelled, unlabelled)
        images = torch.cat([*labelled, *unlabelled])
        targets = torch.cat([refined, refined, guessed, guessed])

        share, partner = self._mixing(len(images), images.device)
        count = 2 * len(labelled[0])
        trained = count if self.lambda_u is None else len(images)
        part = shard(trained)
        losses = cross_entropy(own(mixed(images, share, partner, part)).float())
        weight = (self.lambda_u or 0.0) * linear_ramp(turn.progress, self.lambda_u_ramp)
        loss = mixmatch_loss(losses, mixed(targets, share, partner, part), part, count, weight)
        return loss + batch_prior_penalty(torch.exp(-losses), trained)

    @torch.no_grad()
    def _targets(
        self, turn: Turn, own: nn.Module, other: nn.Module, labelled: Sequence[Tensor], unlabelled: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Targets of the labelled (L, C) and the unlabelled (U, C) samples of the global batch."""
        of_labelled, of_unlabelled = shard(len(labelled[0])), shard(len(unlabelled[0]))

        def softmax(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
            if not len(images):
                return images.new_zeros(0, self.table.num_classes, dtype=torch.float32)
            return network(images).float().softmax(1)

        rows = of_labelled.of(turn.labelled.index)
        clean = self.table["clean_2" if turn.number == 0 else "clean"][rows]
        views = [softmax(own, of_labelled.of(view)) for view in labelled]
        refined = co_refine(self.table["given"][rows], clean, views, self.temperature)
        guesses = [softmax(own, of_unlabelled.of(view)) for view in unlabelled]
        guesses += [softmax(partial(predict, other), of_unlabelled.of(view)) for view in unlabelled]
        return of_labelled.gather(refined), of_unlabelled.gather(co_guess(guesses, self.temperature))

    def _mixing(self, rows: int, device: torch.device) -> tuple[float, Tensor]:
        return mixing(self.alpha, self.streams, self.steps, rows, device)
