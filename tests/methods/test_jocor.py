"""JoCoR's loss and selection, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from saying import Says, batch_of, logits_of, with_table
from torch.distributions import Categorical, kl_divergence
from torch.optim import SGD

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy
from slnlab.methods.jocor import JoCoR
from slnlab.objectives import symmetric_divergence

P, P_2 = [0.9, 0.9, 0.3, 0.6], [0.2, 0.55, 0.3, 0.5]


def joint(p: float, q: float, co_lambda: float) -> float:
    """l_i of two classes, the given one being predicted with p and q."""
    divergence = (p - q) * math.log(p / q) + (q - p) * math.log((1 - p) / (1 - q))
    return (1 - co_lambda) * (-math.log(p) - math.log(q)) + co_lambda * divergence


def bare(co_lambda: float) -> JoCoR:
    method = JoCoR(
        Says(logits_of(P)),
        Says(logits_of(P_2)),
        class_losses=cross_entropy,
        co_lambda=co_lambda,
        forget_rate=0.5,
        ramp_epochs=0,
        optimizer=SGD,
    )
    with_table(method, [0, 0, 0, 0])
    return method


@pytest.mark.parametrize(("co_lambda", "kept"), [(0.0, [1, 3]), (0.9, [2, 3])])
def test_the_joint_loss_selects_the_samples(co_lambda: float, kept: list[int]) -> None:
    """With λ = .9 sample 2, of which both say the same wrong thing, is preferred to sample 1."""
    method = bare(co_lambda)
    joints = [joint(p, q, co_lambda) for p, q in zip(P, P_2, strict=True)]
    assert sorted(sorted(range(4), key=joints.__getitem__)[:2]) == kept, "the example is as it says"
    assert method.loss(batch_of(4)).item() == pytest.approx(sum(joints[i] for i in kept) / 2, rel=1e-5)
    assert method.table["selected"].nonzero().flatten().tolist() == kept


def test_gradients_go_through_every_softmax() -> None:
    """By finite differences in float64, of the hand-written loss."""
    method = bare(0.9)
    method.loss(batch_of(4)).backward()
    gradient = method.networks["network_2"].logits.grad
    step = 1e-6

    def at(shift: float) -> float:
        """Sample 3's joint loss when network 2's logit of class 0 is shifted."""
        odds = P_2[3] / (1 - P_2[3]) * math.exp(shift)
        return joint(P[3], odds / (1 + odds), 0.9) / 2

    assert gradient[3, 0].item() == pytest.approx((at(step) - at(-step)) / (2 * step), rel=1e-4)
    assert gradient[:2].abs().sum() == 0


def test_the_divergence_equals_torchs_in_both_directions() -> None:
    draw = torch.Generator().manual_seed(0)
    one, two = (3 * torch.randn(5, 4, generator=draw) for _ in range(2))
    p, q = Categorical(logits=one), Categorical(logits=two)
    torch.testing.assert_close(symmetric_divergence(one, two), kl_divergence(p, q) + kl_divergence(q, p))


@pytest.mark.parametrize(
    ("data", "noise", "co_lambda", "forget_rate"),
    [
        ("cifar10", "sym", 0.9, 0.4),
        ("cifar10", "asym", 0.9, 0.2),
        ("cifar100", "sym", 0.85, 0.4),
        ("clothing1m", "real", 0.9, 0.4),  # ours
    ],
)
def test_presets_are_the_authors_values(data: str, noise: str, co_lambda: float, forget_rate: float) -> None:
    method = container_of(compose([f"data={data}", f"noise={noise}", "method=jocor"]))["method"]
    assert (method["co_lambda"], method["forget_rate"]) == (co_lambda, forget_rate)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.co_lambda"):
        check(compose(["method=jocor", "method.co_lambda=1.1"]))
