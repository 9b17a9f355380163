"""mixup: the mixtures and the training on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import probabilities
from torch import Tensor
from torch.nn.functional import cross_entropy

from slnlab.data.batches import Batch
from slnlab.methods.mixup import mixup_partners
from slnlab.processes.distributed import Shard
from slnlab.streams import Streams

LABELS = [0, 1, 2, 1]


def test_partners_are_a_permutation_and_change_with_the_step() -> None:
    index, images = torch.tensor([7, 3, 5, 1, 8, 2]), torch.randn(6, 1, 2, 2)
    batch = Batch(index, images, Shard(0, 6, 6))
    seen = set()
    for step in range(8):
        share, rows, partners = mixup_partners(batch, 1.0, Streams(0), step)
        assert 0 <= share <= 1
        assert sorted(rows.tolist()) == sorted(index.tolist())
        for row, image in zip(rows, partners, strict=True):
            assert torch.equal(image, images[index.tolist().index(int(row))])
        seen.add((share, tuple(rows.tolist())))
        again = mixup_partners(batch, 1.0, Streams(0), step)
        assert again[0] == share
        assert torch.equal(again[1], rows)
    assert len(seen) == 8


@pytest.mark.parametrize("alpha", [0.3, 1.0, 8.0])
def test_the_share_has_the_moments_of_its_beta_distribution(alpha: float) -> None:
    """Mean 1/2, variance 1/(4(2α + 1)): no max(λ, 1 − λ)."""
    batch = Batch(torch.arange(2), torch.zeros(2, 1), Shard(0, 2, 2))
    shares = np.array([mixup_partners(batch, alpha, Streams(3), step)[0] for step in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_the_loss_is_the_mixture_of_both_cross_entropies(bare: Callable[..., Any]) -> None:
    """At logits that are the mixed images; α = 1, so every share is likely."""
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor(LABELS)
    shares = set()
    for step in range(4):
        made = bare("method=ce", "mixup.alpha=1", given=LABELS, num_classes=3)
        made.method.steps = step
        share, partner, _ = mixup_partners(made.batch(logits), 1.0, Streams(0), step)
        mixed = share * logits + (1 - share) * logits[partner]
        expected = share * cross_entropy(mixed, labels) + (1 - share) * cross_entropy(mixed, labels[partner])
        assert made.loss(logits).item() == pytest.approx(expected.item(), rel=1e-6)
        # What is remembered is of the sample whose image it mostly is.
        rows = torch.arange(4) if share >= 0.5 else partner
        its_loss = cross_entropy(mixed, labels[rows], reduction="none")
        torch.testing.assert_close(made.table["loss"][rows], its_loss.float())
        shares.add(share >= 0.5)
    assert shares == {True, False}


def test_alpha_0_switches_mixup_off(bare: Callable[..., Any]) -> None:
    logits: Tensor = probabilities([[0.5, 0.25, 0.25]] * 4)
    made = bare("method=ce", given=LABELS, num_classes=3)
    expected = cross_entropy(logits, torch.tensor(LABELS))
    assert made.loss(logits).item() == pytest.approx(expected.item(), rel=1e-6)
