"""The signs of SIGUA's loss by hand."""

from __future__ import annotations

import math

import pytest
import torch
from saying import Says, batch_of, logits_of, with_table
from torch.optim import SGD

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy
from slnlab.methods.sigua import Sigua

P = [0.3, 0.9, 0.1, 0.8]
"""Probabilities of the given label; by ascending loss the samples are 1 and 3, then 0, then 2."""


def bare(gamma: float, bad_fraction: float, forget_rate: float = 0.5) -> Sigua:
    method = Sigua(
        Says(logits_of(P)),
        class_losses=cross_entropy,
        gamma=gamma,
        bad_fraction=bad_fraction,
        forget_rate=forget_rate,
        ramp_epochs=0,
        optimizer=SGD,
    )
    with_table(method, [0, 0, 0, 0])
    return method


def test_kept_samples_descend_and_bad_samples_ascend() -> None:
    """Gradient at class 0's logit: (S − 1)/2 for kept, −γ(S − 1)/2 for bad samples. Descent lowers the bad."""
    method = bare(gamma=0.1, bad_fraction=1.0)
    loss = method.loss(batch_of(4))
    by_hand = -(math.log(0.9) + math.log(0.8)) / 2 + 0.1 * (math.log(0.3) + math.log(0.1)) / 2
    assert loss.item() == pytest.approx(by_hand, abs=1e-6)
    loss.backward()
    gradient = method.network.logits.grad[:, 0]
    torch.testing.assert_close(gradient, torch.tensor([0.1 * 0.7 / 2, -0.1 / 2, 0.1 * 0.9 / 2, -0.2 / 2]))
    assert method.table["selected"].tolist() == [False, True, False, True]


def test_the_smallest_rejected_losses_are_bad() -> None:
    method = bare(gamma=0.1, bad_fraction=0.5)
    method.loss(batch_of(4)).backward()
    torch.testing.assert_close(method.network.logits.grad[:, 0], torch.tensor([0.1 * 0.7, -0.1 / 2, 0, -0.2 / 2]))


def test_at_least_one_rejected_sample_is_bad() -> None:
    """int(.3 · 2) = 0 of the samples 0 and 2: the one of smaller loss, 0, as in the authors' code."""
    method = bare(gamma=0.1, bad_fraction=0.3)
    method.loss(batch_of(4)).backward()
    torch.testing.assert_close(method.network.logits.grad[:, 0], torch.tensor([0.1 * 0.7, -0.1 / 2, 0, -0.2 / 2]))


@pytest.mark.parametrize(
    ("forget_rate", "bad_fraction", "expected"),
    [
        (0.0, 1.0, sum(-math.log(p) for p in P) / 4),  # nothing rejected
        (0.0, 0.3, sum(-math.log(p) for p in P) / 4),  # nor with a fraction
        (0.5, 0.0, -(math.log(0.9) + math.log(0.8)) / 2),  # nothing bad
        (0.9, 1.0, 0.1 * sum(math.log(p) for p in P) / 4),  # nothing kept: int(0.1 · 4) = 0
    ],
)
def test_an_empty_set_contributes_nothing(forget_rate: float, bad_fraction: float, expected: float) -> None:
    loss = bare(0.1, bad_fraction, forget_rate).loss(batch_of(4))
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("override", ["method.gamma=-1", "method.bad_fraction=1.5", "method.forget_rate=-0.1"])
def test_impossible_settings_are_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        check(compose(["method=sigua", override]))
