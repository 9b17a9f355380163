"""SSR and SSR+ (Feng, Tzimiropoulos & Patras, 2022): relabel by confidence, select by the vote of neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from slnlab.analysis.neighbours import neighbour_votes
from slnlab.data.batches import Batch, Images, in_batches
from slnlab.data.strong_view import autoaugment
from slnlab.methods.single_network import Lesson, SingleNetwork
from slnlab.models.features import head_on, logits_and_features
from slnlab.models.modes import evaluating
from slnlab.objectives._precision import in_full
from slnlab.processes.batching import FEWEST
from slnlab.processes.distributed import gathered, sum_of_processes
from slnlab.samples import margins
from slnlab.schema.kinds import Count, NonNegative, Positive, Share
from slnlab.streams import beta, derive, seeded


class SSR(SingleNetwork):
    """Each epoch relabels and selects the samples anew, and learns from mixtures of the selected ones.

    At its start the network predicts one weak view of every sample in eval mode.

    1. The label becomes the predicted class where its probability exceeds `relabel_above`, else it is the given one
       (`relabelled`; nothing compounds).
    2. A sample is `selected` if the vote of its nearest neighbours for its label, divided by the label's share of all
       samples, is at least `agreement` times the largest such vote of a class.
    3. An epoch has as many steps as one over all samples. They go round the selected samples, each class repeated to
       the size of the largest. A step mixes all strong views of its batch, two of each sample: the larger share
       max(λ, 1 − λ), λ ~ Beta(α, α). ℓ is any class-wise loss.

    SSR+ adds `consistency` · mean −cos(h(g(f(strong))), sg g(f(weak))) over a batch of *all* samples, with features f,
    a projector g and a predictor h. Both views have a pass of their own. `loss` and `prediction` are those of this
    evaluation, for Label Wave too. Without two selected samples an epoch has no step.

    Args:
        network: see `SingleNetwork`.
        relabel_above: θ_r in [0, 1]; 1: no sample gets another label.
        agreement: θ_s in [0, 1].
        neighbours: number k of neighbours that vote, the sample itself among them.
        references: largest number of samples that vote, drawn anew in each epoch; None: all.
        alpha: α of Beta(α, α), > 0.
        consistency: weight of the consistency term, ≥ 0; 0: SSR.
        options: see `SingleNetwork`.
    """

    refuses: ClassVar[dict[str, str]] = {
        "mixup.alpha": "SSR mixes its samples itself (method.alpha)",
        "correction.enabled": "SSR corrects labels itself (method.relabel_above)",
        "trainer.compile": "SSR reads the features inside the network, which a compiled network hides",
    }
    in_three_epochs: ClassVar[dict[str, Any]] = {"relabel_above": 0.15, "neighbours": 5}
    learns_from_strong_views: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        *,
        relabel_above: Share,
        agreement: Share,
        neighbours: Count,
        references: Count | None,
        alpha: Positive,
        consistency: NonNegative,
        **options: Any,
    ) -> None:
        super().__init__(network, **options)
        self.relabel_above, self.agreement = relabel_above, agreement
        self.neighbours, self.references = neighbours, references
        self.alpha, self.consistency = alpha, consistency
        if consistency:
            first = head_on(network, derive(self.seed, "SSR projector"), 256)
            self.heads["projector"] = _two_layers(first, derive(self.seed, "SSR projector 2"))
            with seeded(derive(self.seed, "SSR predictor")):
                second = nn.Linear(128, 256, dtype=first.weight.dtype)
            self.heads["predictor"] = _two_layers(second, derive(self.seed, "SSR predictor 2"))

    @classmethod
    def batches_kept(cls, options: Mapping[str, Any]) -> int:
        return 3 if options["consistency"] else 2

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.table.add("selected", fill=True, dtype=torch.bool)
        self.table.add("relabelled", -1, dtype=torch.int64)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.view = self.data.strong_view(autoaugment())

    # The start of an epoch

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.sort()

    @torch.no_grad()
    def sort(self) -> None:
        """Relabel and select the samples of the epoch, equally in all processes."""
        passes: list[tuple[Tensor, ...]] = []
        with evaluating(self.network):
            for index, image in self.data.passes("augmented", "SSR", self.current_epoch):
                logits, features = logits_and_features(self.network, image)
                passes.append((index, logits, features))
        index, logits, features = gathered(passes)
        del passes  # their features take as much memory as `features`
        order = index.argsort()  # that of a single process
        index, logits, features = index[order], logits[order].float(), features[order]
        given = self.table["given"][index]
        losses = cross_entropy(logits, given, reduction="none")
        self.table.note(index, losses, logits.argmax(1), margins(logits, given))
        confidence, predicted = logits.softmax(1).max(1)
        labels = torch.where(confidence > self.relabel_above, predicted, given)
        generator = self.streams("SSR references", self.current_epoch)
        votes = neighbour_votes(
            features,
            labels,
            self.table.num_classes,
            self.neighbours,
            references=self.references,
            generator=generator,
        )
        self.table["relabelled"][index] = labels
        self.table["selected"][index] = agreeing(votes, labels, self.agreement)

    def batches(self, epoch: int) -> Iterable[Callable[[], Any]]:
        rows, size = self.data.train_index, self.data.batch_size
        every = self._shuffled(rows, "all", epoch) if self.consistency else rows[:0]
        parts = in_batches(self._balanced(rows[self.table["selected"][rows]], epoch, len(rows)), size)
        others = in_batches(every, size) if self.consistency else [every] * len(parts)
        read = self.data.reading([rows for pair in zip(parts, others, strict=False) for rows in pair])
        return [partial(self._batch, read, epoch, step) for step in range(len(parts))]

    def _shuffled(self, rows: Tensor, purpose: str, *position: int) -> Tensor:
        generator = self.streams(f"SSR order {purpose}", *position)
        return rows[torch.randperm(len(rows), generator=generator, device=rows.device)]

    def _balanced(self, kept: Tensor, epoch: int, length: int) -> Tensor:
        """The selected rows in random order, each class as often as the largest, in so many places."""
        if len(kept) < FEWEST:
            return kept[:0]
        labels = self.table["relabelled"][kept]
        present, counts = labels.unique(return_counts=True)
        most = int(counts.max())
        # Shuffled, so that in each epoch other samples have one place more than the rest of their class.
        members = [self._shuffled(kept[labels == label], "class", epoch, label) for label in present.tolist()]
        whole = torch.cat([own.repeat(-(-most // len(own)))[:most] for own in members])
        rounds = -(-length // len(whole))
        return torch.cat([self._shuffled(whole, "selected", epoch, number) for number in range(rounds)])[:length]

    def _batch(self, read: Callable[[int], Images], epoch: int, step: int) -> Batch:
        batch = read(2 * step).batch(self.streams("SSR augmentation", epoch, step))
        every = read(2 * step + 1)
        if not self.consistency:
            return batch
        return batch._replace(own=every.batch(self.streams("SSR+ augmentation", epoch, step)))

    # A step

    def targets(self, index: Tensor) -> Tensor:
        return one_hot(self.table["relabelled"][index], self.table.num_classes).float()

    def observe(self, index: Tensor, logits: Tensor) -> None:
        """The sample table keeps the evaluation; a step may have a sample several times."""

    def second_view(self, batch: Batch, number: int) -> Tensor:
        """The strong view with this number, from 1, of the batch's samples at this step, network input (B, …)."""
        assert batch.pixels is not None
        return self.view(batch.pixels(), batch.shard, self.streams, self.steps, number)

    def lesson(self, batch: Batch) -> Lesson:
        lesson, part, total = super().lesson(batch), batch.shard, batch.shard.total
        views = [self.second_view(batch, number) for number in (1, 2)]
        everyones = torch.cat([part.gather(view) for view in views])
        their_targets = part.gather(lesson.targets).repeat(2, 1)
        generator = self.streams("SSR partners", self.steps)
        partners = torch.randperm(2 * total, generator=generator, device=batch.index.device)
        mine = torch.cat([part.of(half) for half in partners.split(total)])
        share = beta(self.alpha, self.seed, "SSR share", self.steps)
        share = max(share, 1 - share)
        images = share * torch.cat(views) + (1 - share) * everyones[mine]
        targets = share * lesson.targets.repeat(2, 1) + (1 - share) * their_targets[mine]
        return Lesson(images, targets, batch.index)

    def batch_loss(self, batch: Batch, logits: Tensor, targets: Tensor) -> Tensor:
        first, second = self.objective(batch, logits, targets).tensor_split(2)
        loss = batch.mean((first + second) / 2)
        if batch.own is None:
            return loss
        return loss + self.consistency * batch.own.mean(self.disagreements(batch.own))

    def disagreements(self, batch: Batch) -> Tensor:
        """−cos of the predicted strong and the projected weak view of each sample, (B,)."""
        projector, predictor = self.heads["projector"], self.heads["predictor"]
        _, strong = logits_and_features(self.network, self.second_view(batch, 3))
        with torch.no_grad():
            _, weak = logits_and_features(self.network, batch.image)
            target = projector(weak)
        return -cosine_similarity(in_full(predictor(projector(strong))), in_full(target))


def agreeing(votes: Tensor, labels: Tensor, agreement: float) -> Tensor:
    """Mask (N,) of the samples whose neighbours agree with their label.

    Args:
        votes: shares (N, C) of the neighbours with each label, see `neighbour_votes`.
        labels: (N,).
        agreement: the label's vote, divided by the label's share of all samples, must be at least this part of the
            largest vote of a class, divided likewise.
    """
    prior = labels.bincount(minlength=votes.shape[1]) / len(labels)
    balanced = votes / prior.clamp(min=1 / len(labels))
    return balanced.gather(1, labels.unsqueeze(1)).squeeze(1) >= agreement * balanced.amax(1)


class _GlobalBatchNorm(nn.Module):
    """Batch norm over the whole batch of all processes, (B, D) → (B, D), with a learned scale and shift.

    It serves training alone, so it keeps no running statistics.
    """

    def __init__(self, features: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(features, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = in_full(x)  # bfloat16 has no 257, and its sums lose digits
        count = sum_of_processes(x.new_full((1,), len(x)))
        above = x - sum_of_processes(x.sum(0)) / count
        variance = sum_of_processes((above**2).sum(0)) / count
        return above * torch.rsqrt(variance + 1e-5) * self.weight + self.bias


def _two_layers(first: nn.Linear, seed: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, and a linear layer with 128 outputs."""
    with seeded(seed):
        second = nn.Linear(first.out_features, 128, dtype=first.weight.dtype)
    return nn.Sequential(first, _GlobalBatchNorm(first.out_features, first.weight.dtype), nn.ReLU(), second)
