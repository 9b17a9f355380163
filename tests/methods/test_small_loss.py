"""The estimated noise rate of small-loss selection."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from saying import OppositeInTraining, logits_of, with_table
from torch.optim import SGD

from slnlab.data.batches import Samples
from slnlab.losses import cross_entropy
from slnlab.methods.co_teaching import CoTeaching


def test_the_noise_rate_is_estimated_in_eval_mode() -> None:
    """Then .9 is said of 7 of 10 given labels and .1 of 3, by both networks: three tenths are wrong."""
    method = CoTeaching(
        OppositeInTraining(),
        OppositeInTraining(),
        class_losses=cross_entropy,
        forget_rate="estimated",
        ramp_epochs=2,
        optimizer=SGD,
    )
    with_table(method, [0] * 10)

    def passes(views: str, purpose: str, epoch: int) -> Iterator[Samples]:
        assert views == "clean"
        yield Samples(torch.arange(10), logits_of([0.9] * 7 + [0.1] * 3))

    method._trainer = SimpleNamespace(datamodule=SimpleNamespace(passes=passes), current_epoch=1)  # type: ignore[assignment]
    assert method._estimate() == pytest.approx(0.3, abs=0.01)
    assert all(network.training for network in method.networks.values()), "they are back in their mode"
