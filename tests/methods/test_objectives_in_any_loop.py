"""Objectives in a plain loop train bit for bit what their methods train."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from resuming import SMALL, trained
from torch import Tensor, nn
from torch.optim import SGD

from slnlab import MomentumAverage, SampleTable
from slnlab.config import compose
from slnlab.losses import expected_loss
from slnlab.methods.sam import running_statistics_kept
from slnlab.models.features import head_on, logits_and_features
from slnlab.models.modes import training
from slnlab.objectives import CORES2, ELR, SOP, shifted_gaussian
from slnlab.streams import derive
from slnlab.training import assemble

OPTIONS = {
    "elr": ["method.strength=3", "method.decay=0.7"],
    "sop": ["method.lr_u=10", "method.lr_v=10"],
    "sgn": ["method.trust=0.5", "momentum.decay=0.9"],
    "cores2": ["method.strength=2", "method.ramp=[1,2]", "method.sieve_from=2"],
}


class Loop:
    """Somebody's training: a network, an optimiser, a sample table, and batches (index, image)."""

    def __init__(self, name: str) -> None:
        config = compose([*SMALL, f"method={name}"])
        self.network: nn.Module = assemble.method(config).network.train()
        self.data = assemble.datamodule(config)
        self.data.prepare_data()
        self.data.setup()
        self.table = SampleTable(self.data.labels.given, num_classes=10)
        self.lr: float = config.optimizer.lr
        options = {key: config.optimizer[key] for key in ("lr", "momentum", "weight_decay")}
        self.optimizer = SGD(self.network.parameters(), **options)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for make in self.data.epoch(epoch):
            index, image, *_ = make()
            yield index, image

    def descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def elr(self, epochs: int) -> None:
        elr = ELR(self.table, strength=3, decay=0.7)
        for epoch in range(epochs):
            for index, image in self.batches(epoch):
                logits = self.network(image)
                elr.remember(index, logits)
                self.descend(elr(index, logits, self.table.targets(index)).mean())

    def sop(self, epochs: int) -> None:
        sop = SOP(self.table, lr_u=10, lr_v=10, seed=3)
        for epoch in range(epochs):
            for index, image in self.batches(epoch):
                noise = sop.noise(index)
                self.descend(sop(noise, self.network(image), self.table.targets(index)).mean())
                sop.step(noise)

    def sgn(self, epochs: int) -> None:
        head = head_on(self.network, derive(3, "SGN direction"))
        self.optimizer.add_param_group({"params": list(head.parameters())})
        average = MomentumAverage(self.network, decay=0.9)
        average.follow(self.optimizer)
        for epoch in range(epochs):
            batches = list(self.batches(epoch))
            for step, (index, image) in enumerate(batches):
                logits, features = logits_and_features(self.network, image)
                with torch.no_grad(), training(average.module), running_statistics_kept(average.module):
                    averages = average.module(image)
                losses = shifted_gaussian(logits, head(features), averages, 1 - 0.5 ** (epoch + step / len(batches)))
                self.descend(expected_loss(self.table.targets(index), losses).mean())

    def cores2(self, epochs: int) -> None:
        cores2 = CORES2(self.table, strength=2, ramp=(1, 2), sieve_from=2)
        for epoch in range(epochs):
            cores2.begin(epoch + 1)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr / (1 + cores2.beta)
            for index, image in self.batches(epoch):
                logits = self.network(image)
                cores2.remember(index, logits)
                self.descend(cores2(index, logits, self.table.targets(index)).mean())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_plain_loop_trains_what_the_method_trains(name: str, tmp_path: Path) -> None:
    _, method, _ = trained(tmp_path / "run", f"method={name}", *OPTIONS[name], "trainer.max_epochs=3")
    loop = Loop(name)
    getattr(loop, name)(3)
    for key, tensor in method.network.state_dict().items():
        assert torch.equal(loop.network.state_dict()[key], tensor), key
    its = loop.table.columns.keys() - {"given", "predicted", "weight"}
    assert its or name == "sgn", "SGN's memory is the momentum model"
    for column in its:
        assert torch.equal(loop.table[column], method.table[column]), column


@pytest.mark.parametrize("objective", [ELR, SOP])
def test_the_docstring_examples_hold(objective: type) -> None:
    done = doctest.testmod(sys.modules[objective.__module__])
    assert done.attempted > 0
    assert done.failed == 0
