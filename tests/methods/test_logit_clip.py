"""LogitClip beside a loss: clipped in training, recorded and tested as it is."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log

import pytest
import torch
from by_hand import Bare
from tier import composed

from slnlab.config import check, compose
from slnlab.errors import ConfigError
from slnlab.training.settling import settle

LOGITS = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
"""Of norm 5, and with τ = 1 clipped to (0.6, 0.8)."""


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("method=ce", log(1 + exp(0.2))),
        ("method=agce", 1.6**0.6 / 0.6 - (0.6 + 1 / (1 + exp(0.2))) ** 0.6 / 0.6),
        ("method=bootstrapping_soft", log(1 + exp(0.2)) - 0.2 * 0.05 / (1 + exp(-0.2))),
    ],
)
def test_the_loss_sees_clipped_logits_and_the_record_does_not(
    method: str, expected: float, bare: Callable[..., Bare]
) -> None:
    made = bare(method, "logit_clip.tau=1", given=[0], num_classes=2)
    assert made.loss(LOGITS).item() == pytest.approx(expected)
    assert made.method.loss(made.batch(LOGITS), again=True).item() == pytest.approx(expected), "SAM's second pass"
    assert made.table["loss"].tolist() == pytest.approx([log(1 + exp(1))])


def test_running_targets_follow_the_clipped_softmax(bare: Callable[..., Bare]) -> None:
    """ELR's q = (1 − β)·softmax after a first step from 0, clipped and not."""
    for tau, difference in ((0, 1.0), (1, 0.2)):
        made = bare("method=elr", "method.decay=0.5", f"logit_clip.tau={tau}", given=[0], num_classes=2)
        made.loss(LOGITS)
        target = made.table["elr"]
        assert (target[0, 1] / target[0, 0]).item() == pytest.approx(exp(difference), rel=1e-4)


@pytest.mark.parametrize(
    ("data", "noise", "tau"),
    [
        ("cifar10", "noise=sym noise.rate=0.4", 1),
        ("cifar10", "noise=sym noise.rate=0.5", 1 / 1.5),
        ("cifar10", "noise=sym noise.rate=0.8", 1 / 1.5),
        ("cifar10", "noise=asym", 0.4),
        ("cifar10", "noise=dependent", 0.5),
        ("cifar100", "noise=sym noise.rate=0.8", 2),
        ("cifar100", "noise=asym", 0.4),
    ],
)
def test_presets_are_the_published_values(data: str, noise: str, tau: float) -> None:
    config = composed(f"data={data}", *noise.split(), "method=logit_clip")
    check(config)
    assert config.logit_clip.tau == pytest.approx(tau)


def test_a_run_without_logit_clip_keeps_its_identity() -> None:
    """The key came later than finished runs."""
    assert "logit_clip" not in settle(compose()).identity
    clipped = settle(compose(["logit_clip.tau=1"]))
    assert clipped.identity["logit_clip"] == {"tau": 1}
    assert clipped.subdir != settle(compose()).subdir


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["logit_clip.tau=-1"], "greater than or equal to 0"),
        (["logit_clip.tua=1"], "tau"),
        (["method=dividemix", "logit_clip.tau=1"], "does not take it"),
        (["method=pes_semi", "logit_clip.tau=1"], "MixMatch"),
        (["method=logit_clip", "logit_clip.tau=0"], "use method=ce"),
    ],
)
def test_a_wrong_clip_is_refused_with_the_reason(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match="logit_clip") as error:
        check(compose(overrides))
    assert said in str(error.value)
