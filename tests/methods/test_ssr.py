"""SSR: relabelling, the vote on nine points in the plane, balanced batches and mixtures, by hand."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import cos, log, pi, sin
from typing import Any

import pytest
import torch
from by_hand import Bare
from torch import nn
from torch.nn.functional import one_hot

from slnlab.analysis.neighbours import neighbour_votes
from slnlab.data.batches import Batch, Samples
from slnlab.methods import ssr
from slnlab.methods.ssr import SSR, _GlobalBatchNorm, agreeing
from slnlab.processes.distributed import shard

ANGLES = [0, 10, 20, 120, 130, 140, 240, 250, 260]
LABELS = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2, 0])


def test_the_vote_on_nine_points_in_the_plane() -> None:
    """Three points on each of three arcs; k = 3, so each arc has one vote: (2, 1, 0), (0, 3, 0) and (1, 0, 2) of 3.

    Labels have the shares (3, 4, 2)/9. The first arc: 2/3 : 3/9 = 2 for class 0 and 1/3 : 4/9 = .75 for class 1. The
    third: 1/3 : 3/9 = 1 for class 0 and 2/3 : 2/9 = 3 for class 2.
    """
    points = torch.tensor(
        [[r * cos(pi * a / 180), r * sin(pi * a / 180)] for r, a in zip(range(1, 10), ANGLES, strict=True)]
    )
    votes = neighbour_votes(points, LABELS, 3, 3)
    assert (3 * votes).round().tolist() == [[2, 1, 0]] * 3 + [[0, 3, 0]] * 3 + [[1, 0, 2]] * 3
    assert agreeing(votes, LABELS, 1.0).tolist() == [True, True, False] + [True] * 3 + [True, True, False]
    assert agreeing(votes, LABELS, 0.37).tolist() == [True] * 8 + [False], ".75 of 2, but 1 of 3"


@pytest.mark.parametrize("references", [None, 3])
def test_a_sample_votes_for_itself_whoever_else_may_vote(references: int | None) -> None:
    points, labels = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    alone = neighbour_votes(points, labels, 9, 1, references=references)
    assert torch.equal(alone, torch.eye(9))
    two = neighbour_votes(points.repeat(2, 1), labels.repeat(2), 9, 2, references=references and 18)
    assert torch.equal(two, torch.eye(9).repeat(2, 1)), "its copy is its nearest neighbour"


def sorting(bare: Callable[..., Bare], name: str = "ssr") -> SSR:
    """Two features are the logits of two classes; sample 0 is surely of class 1, the others are undecided."""
    made = bare(f"method={name}", "method.relabel_above=0.9", "method.neighbours=2", given=[0, 0, 0, 1], num_classes=2)
    method = made.method
    assert isinstance(method, SSR)
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.copy_(torch.eye(2))
        network.bias.zero_()
    method.networks["network"] = network
    images = torch.tensor([[0.0, 9.0], [1.0, 1.0], [1.0, 1.01], [0.01, 1.0]])
    made.trainer.datamodule.passes = lambda *_: iter([Samples(torch.tensor([3, 1, 2, 0]), images[[3, 1, 2, 0]])])
    made.trainer.datamodule.batch_size = 64
    return method


def test_an_epoch_relabels_and_selects_by_hand(bare: Callable[..., Bare]) -> None:
    """Labels (1, 0, 0, 1): the sure sample 0 is relabelled, and its neighbour 3 then agrees with it."""
    method = sorting(bare)
    method.sort()
    assert method.table["relabelled"].tolist() == [1, 0, 0, 1]
    assert method.table["selected"].all()
    assert method.table["loss"][1].item() == pytest.approx(log(2))
    assert method.table["prediction"].tolist()[0] == 1
    assert method.table["margin"].tolist() == pytest.approx([-9, 0, -0.01, 0.99])
    method.relabel_above = 1.0
    method.sort()
    assert method.table["relabelled"].tolist() == [0, 0, 0, 1]
    assert method.table["selected"].tolist() == [False, True, True, True], "its neighbour has the other label"


def test_the_features_of_the_batches_are_freed_before_the_vote(
    bare: Callable[..., Bare], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_batches: list[weakref.ref[torch.Tensor]] = []

    def noted(network: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = image.clone()
        of_batches.append(weakref.ref(features))
        return network(image), features

    def voting(*arguments: Any, **options: Any) -> torch.Tensor:
        assert [part() for part in of_batches] == [None]
        return neighbour_votes(*arguments, **options)

    monkeypatch.setattr(ssr, "logits_and_features", noted)
    monkeypatch.setattr(ssr, "neighbour_votes", voting)
    method = sorting(bare)
    method.sort()
    assert method.table["selected"].all()


def test_each_class_is_repeated_to_the_size_of_the_largest(bare: Callable[..., Bare]) -> None:
    method = sorting(bare)
    method.table["relabelled"].copy_(torch.tensor([0, 0, 0, 1]))
    kept = torch.tensor([0, 1, 2, 3])
    assert method._balanced(kept, 0, 6).sort().values.tolist() == [0, 1, 2, 3, 3, 3]
    assert len(method._balanced(kept, 0, 10)) == 10
    assert len(method._balanced(kept[:1], 0, 10)) == 0, "one sample makes no batch"


@pytest.mark.parametrize("name", ["ssr", "ssr_plus"])
def test_an_epoch_is_as_long_as_all_samples(bare: Callable[..., Bare], name: str) -> None:
    """Two of four samples are selected: batches of two go round them twice."""
    method = sorting(bare, name)
    method.data.batch_size = 2
    read: list[torch.Tensor] = []
    method.data.reading = read.extend  # type: ignore[assignment, method-assign]
    method.table["selected"].copy_(torch.tensor([True, False, False, True]))
    assert len([*method.batches(0)]) == 2
    assert torch.cat(read[::2]).bincount().tolist() == [2, 0, 0, 2], "their batches come first in each pair"


def test_strong_views_are_mixed_with_their_targets(bare: Callable[..., Bare]) -> None:
    """Views that show the label: images and targets are mixed alike, and a row keeps the larger share of its own."""
    method = sorting(bare)
    method.table["relabelled"].copy_(torch.tensor([1, 0, 0, 1]))
    rows = torch.tensor([0, 1, 3, 3])
    labels = one_hot(method.table["relabelled"][rows], 2).float()
    method.second_view = lambda batch, number: labels  # type: ignore[assignment]
    lesson = method.lesson(Batch(rows, torch.zeros(4, 2), shard(4)))
    torch.testing.assert_close(lesson.images, lesson.targets)
    assert lesson.targets.shape == (8, 2)
    assert torch.equal(lesson.targets.argmax(1), labels.argmax(1).repeat(2))
    assert (lesson.targets.max(1).values < 1).any()


def test_the_loss_is_the_mean_over_both_views_plus_the_consistency(bare: Callable[..., Bare]) -> None:
    """Two samples, logits (0, 0): log 2. Projected alike, a sample agrees with itself: −1."""
    method = sorting(bare, "ssr_plus")
    batch = Batch(torch.tensor([0, 1]), torch.rand(2, 2), shard(2))
    targets = torch.eye(2).repeat(2, 1)
    assert method.batch_loss(batch, torch.zeros(4, 2), targets).item() == pytest.approx(log(2))
    method.heads["projector"] = method.heads["predictor"] = nn.Identity()
    method.second_view = lambda batch, number: 3 * batch.image  # type: ignore[assignment]
    both = batch._replace(own=batch)
    assert method.batch_loss(both, torch.zeros(4, 2), targets).item() == pytest.approx(log(2) - 1)


def test_the_weak_view_gets_no_gradient(bare: Callable[..., Bare]) -> None:
    method = sorting(bare, "ssr_plus")
    method.heads["projector"], method.heads["predictor"] = nn.Linear(2, 2), nn.Identity()
    weak, strong = torch.rand(2, 2).requires_grad_(), torch.rand(2, 2).requires_grad_()
    method.second_view = lambda batch, number: strong  # type: ignore[assignment]
    method.disagreements(Batch(torch.tensor([0, 1]), weak, shard(2))).sum().backward()
    assert weak.grad is None
    assert strong.grad is not None


def test_the_norm_of_the_heads_equals_torchs_in_one_process() -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(_GlobalBatchNorm(3, torch.float64)(x), nn.BatchNorm1d(3, dtype=torch.float64)(x))
