"""Co-teaching+ by hand: disagreements, picks and the input of the loss."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.plugins.precision import Precision
from saying import Says, batch_of, logits_of, with_table
from torch import nn
from torch.optim import SGD

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.errors import ConfigError
from slnlab.losses import cross_entropy, logit_clip
from slnlab.methods.co_teaching_plus import CoTeachingPlus

P, P_2 = [0.9, 0.6, 0.99, 0.2, 0.7, 0.3], [0.2, 0.1, 0.98, 0.8, 0.4, 0.45]
"""They agree on samples 2 and 5. Of D = {0, 1, 3, 4}, losses ascend as 0, 4, 1, 3 and as 3, 4, 0, 1."""


def bare(p: list[float], q: list[float], loss_input: str = "logits", forget_rate: float = 0.75) -> CoTeachingPlus:
    method = CoTeachingPlus(
        Says(logits_of(p)),
        Says(logits_of(q)),
        class_losses=cross_entropy,
        init_epochs=0,
        loss_input=loss_input,
        forget_rate=forget_rate,
        ramp_epochs=0,
        optimizer=SGD,
    )
    with_table(method, [0] * len(p))
    return method


def test_picks_come_from_the_disagreements_alone() -> None:
    """int(.25 · 4) = 1 of D: network 1 learns from sample 3, network 2 from sample 0."""
    method = bare(P, P_2)
    loss, size = method.loss_of_disagreements(batch_of(6))
    assert int(size) == 4
    assert loss.item() == pytest.approx(-math.log(0.2) - math.log(0.2))
    assert method.table["selected"].nonzero().flatten().tolist() == [3]
    assert method.table["selected_2"].nonzero().flatten().tolist() == [0]


def test_all_disagreements_are_kept_if_the_count_is_zero() -> None:
    method = bare(P, P_2, forget_rate=0.8)  # int(.2 · 4) = 0
    method.loss_of_disagreements(batch_of(6))
    for name in ("selected", "selected_2"):
        assert method.table[name].nonzero().flatten().tolist() == [0, 1, 3, 4]


def test_probabilities_as_input_apply_softmax_twice() -> None:
    """As in the authors' code, the loss at probability p of class 0 is −log of softmax(p, 1 − p)."""
    loss, _ = bare(P, P_2, loss_input="probabilities").loss_of_disagreements(batch_of(6))

    def twice(p: float) -> float:
        return -p + math.log(math.exp(p) + math.exp(1 - p))

    assert loss.item() == pytest.approx(twice(0.2) + twice(0.2), rel=1e-5)


@pytest.mark.parametrize("loss_input", ["logits", "probabilities"])
def test_logits_are_clipped_before_they_become_probabilities(loss_input: str) -> None:
    tau = 0.4
    ours, expected = bare(P, P_2, loss_input=loss_input), bare(P, P_2, loss_input=loss_input)
    ours.logit_clip = tau
    for network in expected.networks.values():
        network.logits = nn.Parameter(logit_clip(network.logits.detach(), tau))
    assert ours.loss_of_disagreements(batch_of(6))[0].item() == pytest.approx(
        expected.loss_of_disagreements(batch_of(6))[0].item(), rel=1e-6
    )


def test_the_loss_range_of_softmax_twice_at_ten_classes() -> None:
    """The range that it is known by, 1.46 to 2.46: of the given class network 1 says 1, network 2 says 0.

    The second softmax is of a one and nine zeros: e/(e + 9) and 1/(e + 9).
    """
    method = bare([0.5], [0.5], loss_input="probabilities", forget_rate=0.0)
    with_table(method, [0], num_classes=10)
    for sure_of, network in enumerate(method.networks.values()):
        network.logits = nn.Parameter(torch.full((1, 10), -100.0))
        network.logits.data[0, sure_of] = 100.0
    loss, size = method.loss_of_disagreements(batch_of(1))
    assert int(size) == 1
    assert loss.item() == pytest.approx(1.4612 + 2.4612, abs=2e-4)


def test_disagreements_count_after_init_epochs() -> None:
    """After two initial epochs, in the third. Before, the 1 of all 6 samples that both find easiest is number 2."""
    method, learned_from = bare(P, P_2), []
    method.init_epochs = 2
    method.descend = lambda loss: None  # type: ignore[method-assign]
    for epoch in range(4):
        method._trainer = SimpleNamespace(current_epoch=epoch, precision_plugin=Precision())  # type: ignore[assignment]
        method.step(batch_of(6))
        learned_from.append(method.table["selected"].nonzero().flatten().tolist())
    assert learned_from == [[2], [2], [3], [3]]


def test_a_batch_without_disagreements_takes_no_step() -> None:
    method = bare(P, P)
    loss, size = method.loss_of_disagreements(batch_of(6))
    assert (loss.item(), int(size)) == (0, 0)
    loss.backward()
    assert method.network.logits.grad.abs().sum() == 0


@pytest.mark.parametrize(("data", "epochs"), [("cifar10", 20), ("cifar100", 5), ("digits", 10)])
def test_presets_are_the_authors_values(data: str, epochs: int) -> None:
    method = container_of(compose([f"data={data}", "method=co_teaching_plus"]))["method"]
    assert (method["init_epochs"], method["loss_input"]) == (epochs, "probabilities")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"method\.loss_input"):
        check(compose(["method=co_teaching_plus", "method.loss_input=softmax"]))
