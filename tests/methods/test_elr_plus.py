"""ELR+ by hand: a step of each network, the running targets over two, the weight average."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from resuming import trained
from saying import OppositeInTraining, Says, batch_of, logits_of, with_table
from torch import Tensor
from torch.optim import SGD

from slnlab.config import check, compose
from slnlab.config.container import container_of
from slnlab.data.batches import Batch
from slnlab.errors import ConfigError
from slnlab.methods.elr_plus import ELRPlus, Turn, exponential_ramp, weighted_by
from slnlab.processes.distributed import shard
from slnlab.streams import Streams

P, P_2 = [0.8, 0.4], [0.6, 0.3]
"""The networks' probabilities of class 0 for samples 0 and 1, whose labels are 0 and 1."""
AVERAGE, AVERAGE_2 = [0.7, 0.5], [0.9, 0.2]
"""The same by their weight averages."""


def bare(monkeypatch: pytest.MonkeyPatch, *, weigh: bool = False, ramp: bool = False) -> ELRPlus:
    """The partner's share is ¼ of the targets, but none of the images: they are numbers of rows here."""
    method = ELRPlus(
        Says(logits_of(P)),
        Says(logits_of(P_2)),
        strength=3.0,
        decay=0.7,
        alpha=1.0,
        average_decay=0.9,
        ramp_steps=10,
        ramp_regulariser=ramp,
        weight_labels_by_target=weigh,
        optimizer=SGD,
    )
    with_table(method, [0, 1])
    method.table.add("elr", shape=(2,))
    method.table.add("elr_2", shape=(2,))
    method.streams = Streams(0)
    for average, p in zip(method.averages, (AVERAGE, AVERAGE_2), strict=True):
        average.logits.data = logits_of(p)
    for network in method.networks.values():
        network.forward = lambda images, network=network: network.logits[:2]  # type: ignore[method-assign]

    def partners(batch, alpha, streams, step):
        return 0.25, torch.tensor([1, 0]), batch.image  # λ = ¼, so λ' = ¾

    monkeypatch.setattr("slnlab.methods.elr_plus.mixup_partners", partners)
    return method


@pytest.mark.parametrize(("number", "own", "other"), [(0, P, AVERAGE_2), (1, P_2, AVERAGE)])
def test_a_step_by_hand(number: int, own: list[float], other: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Q moves by .3 towards what the *other* network's average says, then is mixed ¾ to ¼ with the partner's."""
    method = bare(monkeypatch)
    loss = method.loss(Turn(number, 1, batch_of(2)))
    running = [[0.3 * p, 0.3 * (1 - p)] for p in other]
    total = 0.0
    for i, j in ((0, 1), (1, 0)):
        q = [0.75 * a + 0.25 * b for a, b in zip(running[i], running[j], strict=True)]
        label = [0.75, 0.25] if i == 0 else [0.25, 0.75]
        s = [own[i], 1 - own[i]]
        total += -sum(y * math.log(p) for y, p in zip(label, s, strict=True))
        total += 3.0 * math.log(1 - sum(a * b for a, b in zip(q, s, strict=True)))
    assert loss.item() == pytest.approx(total / 2, rel=1e-5)
    loss.backward()
    gradients = [network.logits.grad for network in method.networks.values()]
    assert gradients[number] is not None
    assert gradients[1 - number] is None
    torch.testing.assert_close(method.table[("elr", "elr_2")[number]], torch.tensor(running))
    assert not method.table[("elr_2", "elr")[number]].any(), "each network has targets of its own"


@pytest.mark.parametrize("number", [0, 1])
def test_networks_see_mixed_images_and_averages_unmixed_ones(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network sees ¾ of the sample's own image and ¼ of the partner's, the other's average, in train mode too, the
    image as it was.

    Logits of class 0 are 4·log 3 and 0, of class 1 they are 0: mixed, 3·log 3 and log 3, of which a network in train
    mode says 1/28 and 1/4. Of the images themselves the average says 1/82 and 1/2.
    """
    method = bare(monkeypatch)
    method.strength = 0.0
    for name in ("network", "network_2"):
        method.networks[name] = OppositeInTraining()
    method.averages = torch.nn.ModuleList(OppositeInTraining() for _ in range(2))

    def partners(batch: Batch, *_: object) -> tuple[float, Tensor, Tensor]:
        return 0.25, torch.tensor([1, 0]), batch.image[[1, 0]]

    monkeypatch.setattr("slnlab.methods.elr_plus.mixup_partners", partners)
    images = torch.tensor([[4 * math.log(3), 0.0], [0.0, 0.0]])
    loss = method.loss(Turn(number, 1, Batch(torch.tensor([0, 1]), images, shard(2))))
    # Labels are 0 and 1, and ¾ of each stays.
    first = -0.75 * math.log(1 / 28) - 0.25 * math.log(27 / 28)
    second = -0.25 * math.log(1 / 4) - 0.75 * math.log(3 / 4)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-5)
    running = torch.tensor([[0.3 / 82, 0.3 * 81 / 82], [0.15, 0.15]])
    torch.testing.assert_close(method.table[("elr", "elr_2")[number]], running)


def test_running_targets_over_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """From zeros: .3·s, then .7·.3·s + .3·s'."""
    method = bare(monkeypatch)
    method.loss(Turn(0, 1, batch_of(2)))
    method.averages[1].logits.data = logits_of([0.5, 0.5])
    method.loss(Turn(0, 2, batch_of(2)))
    expected = [[0.21 * p + 0.15, 0.21 * (1 - p) + 0.15] for p in AVERAGE_2]
    torch.testing.assert_close(method.table["elr"], torch.tensor(expected))


def test_regulariser_ramp_and_label_weighting_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first of 10 steps the regulariser counts e^(−5·.81); labels (¾, ¼) weighed by q."""
    method = bare(monkeypatch, weigh=True, ramp=True)
    loss = method.loss(Turn(0, 1, batch_of(2))).item()
    running = [[0.3 * p, 0.3 * (1 - p)] for p in AVERAGE_2]
    total = 0.0
    for i, j in ((0, 1), (1, 0)):
        q = [0.75 * a + 0.25 * b for a, b in zip(running[i], running[j], strict=True)]
        products = [y * a for y, a in zip([0.75, 0.25] if i == 0 else [0.25, 0.75], q, strict=True)]
        s = [P[i], 1 - P[i]]
        total += -sum(y / sum(products) * math.log(p) for y, p in zip(products, s, strict=True))
        total += math.exp(-5 * 0.81) * 3.0 * math.log(1 - sum(a * b for a, b in zip(q, s, strict=True)))
    assert loss == pytest.approx(total / 2, rel=1e-5)


def test_labels_without_a_positive_product_stay_unchanged() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    targets = torch.tensor([[0.0, 0.3], [0.1, 0.3]])
    torch.testing.assert_close(weighted_by(labels, targets), torch.tensor([[1.0, 0.0], [0.25, 0.75]]))


@pytest.mark.parametrize(("step", "expected"), [(0, math.exp(-5)), (5, math.exp(-1.25)), (10, 1.0), (99, 1.0)])
def test_ramp_up_by_hand(step: int, expected: float) -> None:
    assert exponential_ramp(step, 10) == pytest.approx(expected)


def test_the_weight_average_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """After step 4 of 10: a = .9·e^(−5·.25). The other network's average stays."""
    method = bare(monkeypatch)
    a = 0.9 * math.exp(-1.25)
    method.move_average(Turn(1, 4, batch_of(2)))
    torch.testing.assert_close(method.averages[1].logits, a * logits_of(AVERAGE_2) + (1 - a) * logits_of(P_2))
    torch.testing.assert_close(method.averages[0].logits.detach(), logits_of(AVERAGE))


def test_each_epoch_trains_network_1_then_network_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network 1 completely, then network 2, each through all samples in an order of its own."""
    seen: list[tuple[int, int, list[int]]] = []
    step = ELRPlus.step

    def watched(self: ELRPlus, turn: Turn) -> None:
        seen.append((turn.number, turn.step, turn.batch.index.tolist()))
        step(self, turn)

    monkeypatch.setattr(ELRPlus, "step", watched)
    _, method, _ = trained(tmp_path / "run", "method=elr_plus", "trainer.max_epochs=2")
    assert method.steps == 2 * 2 * 10
    assert {name.split(".")[0] for name in method.state_dict()} == {"networks", "averages"}
    assert [number for number, _, _ in seen] == ([0] * 10 + [1] * 10) * 2
    assert [count for number, count, _ in seen if number == 1] == list(range(1, 21))
    orders = [[row for _, _, index in seen[i : i + 10] for row in index] for i in (0, 10, 20, 30)]
    assert all(sorted(order) == list(range(110)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(
    ("data", "noise", "expected"),
    [
        ("cifar10", "sym", (3.0, 0.7, 0.997, 40000, False, False)),
        ("cifar10", "asym", (1.0, 0.9, 0.997, 40000, False, False)),
        ("cifar100", "sym", (7.0, 0.9, 0.997, 40000, True, True)),
    ],
)
def test_presets_are_the_authors_values(data: str, noise: str, expected: tuple[float, ...]) -> None:
    method = container_of(compose([f"data={data}", f"noise={noise}", "method=elr_plus"]))["method"]
    keys = ("strength", "decay", "average_decay", "ramp_steps", "ramp_regulariser", "weight_labels_by_target")
    assert tuple(method[key] for key in keys) == expected


@pytest.mark.parametrize(
    ("override", "key"),
    [("sln.sigma=1", "sln.sigma"), ("method.decay=1", "method.decay"), ("loss=gce", "loss.name")],
)
def test_impossible_settings_are_refused(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        check(compose(["method=elr_plus", override]))
