"""PES with MixMatch (Bai et al., 2021): samples without a confident prediction lose their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from slnlab.data.batches import Batch, Images, drawn
from slnlab.losses import cross_entropy
from slnlab.methods.pes import PES, Refining
from slnlab.objectives import co_guess, softmax
from slnlab.objectives.mixmatch import linear_ramp, mixed, mixing, mixmatch_loss
from slnlab.processes.batching import FEWEST
from slnlab.processes.distributed import shard
from slnlab.schema.kinds import Count, CountOrZero, FirstEpochs, Names, NonNegative, Positive, Steps


def sizes(labelled: int, unlabelled: int, batch: int) -> tuple[int, int]:
    """Numbers of labelled and unlabelled samples of a batch: halves if more are unlabelled, else their shares of all.

    A part of 1 becomes 2, because the network predicts each part alone in train mode.

    >>> sizes(30, 10, 128), sizes(10, 30, 128), sizes(99, 1, 128)
    ((96, 32), (64, 64), (126, 2))
    """
    of_unlabelled = batch // 2 if unlabelled > labelled else batch * unlabelled // max(labelled + unlabelled, 1)
    of_unlabelled = FEWEST if of_unlabelled == 1 else of_unlabelled
    return max(batch - of_unlabelled, FEWEST), of_unlabelled


class Mixing(NamedTuple):
    """A step of MixMatch, by its number in the epoch."""

    number: int
    begins: bool
    """True for the first step after the refining, which splits the samples first."""


class PESSemi(PES):
    """Cross entropy, then a new classifier, then MixMatch with the confident samples as the labelled ones.

    After `early_epochs` the classifier is initialised anew and trained alone for `classifier_epochs` passes (see
    `PES`). That epoch and every later one splits the samples as `PES` selects them, and takes `steps` steps. Each has
    a batch of labelled and unlabelled samples (see `sizes`), two augmented views of each. The target of a labelled
    sample is its given label, that of an unlabelled one the sharpened mean of the network's softmaxes (train mode).
    All are mixed with λ ~ Beta(α, α); the sample itself has the larger share. With w = `class_weights`, at most
    `weight_cap`,

        loss = mean −Σ_c w_c t_c log S_c + λ_u · ramp · mean (S − t)²,

    the first mean over the labelled rows, the second over the unlabelled rows and the classes (Bai et al. 2021; details
    as in their code). Without labelled samples there are no steps, without unlabelled samples no unlabelled part.

    Args:
        network: see `SingleNetwork`.
        early_epochs, classifier_epochs, refining_lr, replaced_parts, classifier: see `PES`.
        steps: number of steps in an epoch of MixMatch.
        temperature: temperature T of the sharpening.
        alpha, alpha_late: α of Beta(α, α) in the first half of the epochs, and in the second.
        lambda_u: weight of the squared error, ≥ 0.
        lambda_u_ramp: number of epochs over which lambda_u grows from 0.
        weight_cap: largest class weight w.
        options: see `SingleNetwork`; `sigma` is 0.
    """

    rows: ClassVar[dict[str, str]] = {"network": "{}", "momentum": "PES-MO (semi)"}
    refuses: ClassVar[dict[str, str]] = {
        "sln.sigma": "PES (semi) mixes its targets and guesses some of them; to train SLN first, use init.from=sln",
        "mixup.alpha": "PES (semi) mixes its samples itself (MixMatch)",
        "sam.rho": (
            "SAM needs a second pass with the same targets, and PES (semi) guesses its targets anew at every step"
        ),
        "logit_clip.tau": "PES (semi) mixes its samples and has a loss of its own (MixMatch)",
        "class_balance.strength": "PES (semi) has a loss of its own (MixMatch)",
        "correction.enabled": "PES (semi) makes its own targets for samples that disagree with their labels",
        "trainer.compile": "both parts of a batch of PES (semi) get another size in each epoch, to be compiled anew",
    }
    fixed: ClassVar[dict[str, Any]] = {"loss.name": "cross_entropy"}
    weighs_samples: ClassVar[bool] = False
    in_three_epochs: ClassVar[dict[str, Any]] = {
        "early_epochs": 1,
        "classifier_epochs": 2,
        "refining_lr": 0.01,
        "lambda_u_ramp": 1,
    }

    def __init__(
        self,
        network: nn.Module,
        *,
        early_epochs: FirstEpochs,
        classifier_epochs: Count,
        refining_lr: Positive,
        replaced_parts: Literal["frozen", "trained"],
        steps: Steps,
        temperature: Positive,
        alpha: Positive,
        alpha_late: Positive,
        lambda_u: NonNegative,
        lambda_u_ramp: CountOrZero,
        weight_cap: Positive,
        classifier: Names | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            network,
            early_epochs=early_epochs,
            stage_epochs=0,
            classifier_epochs=classifier_epochs,
            refining_lr=refining_lr,
            replaced_parts=replaced_parts,
            last_stage=(),
            classifier=classifier,
            **options,
        )
        self.mixing_steps, self.temperature, self.weight_cap = steps, temperature, weight_cap
        self.alpha, self.alpha_late = alpha, alpha_late
        self.lambda_u, self.lambda_u_ramp = lambda_u, lambda_u_ramp
        self.labelled: Tensor
        """Rows of the sample table (steps, L) in this epoch, of global batches."""
        self.unlabelled: Tensor
        self.read: Callable[[int], Images]
        """The images of both, step by step: labelled ones, then unlabelled ones."""

    @classmethod
    def batches_kept(cls, options: Mapping[str, Any]) -> int:
        return 2  # two views

    def batches(self, epoch: int) -> Iterable[Callable[[], Any]]:
        if epoch < self.early_epochs:
            return super().batches(epoch)
        new = epoch == self.early_epochs
        turns = [partial(Mixing, number, new and number == 0) for number in range(self.mixing_steps)]
        return chain(super().batches(epoch), turns) if new else turns

    def select(self) -> None:
        """Split the samples, and draw the batches of the epoch."""
        super().select()
        assert self.weights is not None
        self.weights = self.weights.clamp(max=self.weight_cap)
        rows = self.data.train_index
        confident = self.table["selected"][rows]
        groups = rows[confident], rows[~confident]
        counts = sizes(len(groups[0]), len(groups[1]), self.data.batch_size)
        self.labelled, self.unlabelled = (
            drawn(group, self.mixing_steps * count, self.streams(f"PES {name}", self.current_epoch)).view(
                self.mixing_steps, count if len(group) else 0
            )
            for name, group, count in zip(("labelled", "unlabelled"), groups, counts, strict=True)
        )
        batches = chain.from_iterable(zip(self.labelled, self.unlabelled, strict=True))
        self.read = self.data.reading([*batches], whole=True)

    def step(self, batch: Batch | Refining | Mixing) -> None:
        if not isinstance(batch, Mixing):
            super().step(batch)
            return
        if batch.begins:
            self.settle()
        if not self.labelled.shape[1]:
            return
        with self.forward_pass():
            loss = self.mixmatch(batch.number)
        self.descend(loss)

    def mixmatch(self, number: int) -> Tensor:
        """This process's share of the loss of a step. Every process augments the whole batch and trains on its part."""
        labelled, unlabelled = (
            [images.view(self.streams(f"PES {name} view {view}", self.steps)) for view in (1, 2)]
            for name, images in (("labelled", self.read(2 * number)), ("unlabelled", self.read(2 * number + 1)))
        )
        given = one_hot(self.table["given"][self.labelled[number]], self.table.num_classes).float()
        targets = [given, given]
        if len(unlabelled[0]):
            targets += [self._guess(unlabelled)] * 2
        images, target = torch.cat([*labelled, *unlabelled]), torch.cat(targets)

        late = 2 * self.current_epoch >= (self.trainer.max_epochs or 0)
        alpha = self.alpha_late if late else self.alpha
        share, partner = mixing(alpha, self.streams, self.steps, len(images), images.device)
        part, count = shard(len(images)), 2 * len(given)
        losses = cross_entropy(self.network(mixed(images, share, partner, part)))
        progress = self.current_epoch - self.early_epochs + number / self.mixing_steps
        weight = self.lambda_u * linear_ramp(progress, self.lambda_u_ramp)
        target = mixed(target, share, partner, part)
        return mixmatch_loss(losses, target, part, count, weight, self.weights)

    @torch.no_grad()
    def _guess(self, views: Sequence[Tensor]) -> Tensor:
        """Targets of the unlabelled samples (U, C) of the global batch."""
        mine = shard(len(views[0]))
        return mine.gather(co_guess([softmax(self.network(mine.of(view))) for view in views], self.temperature))
