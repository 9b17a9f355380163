"""The floor of our step time: a bare loop with the same computations and no generality.

It has the same batches (images on the device, crop and flip per sample), SLN, SGD, the momentum average, and each
sample's loss and prediction against its given label. After the epoch it computes the memorisation monitor's means, and
writes a CSV row and a checkpoint. It has no Lightning, sample table, named random streams, momentum hook or checks.
"""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from benchmarks.made import MEAN, STD
from benchmarks.measure import DEVICE
from slnlab.data.augment import CropFlip, Normalise
from slnlab.data.source import LabelledImages


class BareLoop:
    """The bare loop. Each call of `epoch` trains one epoch."""

    def __init__(self, network: nn.Module, data: LabelledImages, given: Tensor, directory: Path) -> None:
        network = network.to(DEVICE)
        self.network, self.average = network, copy.deepcopy(network).requires_grad_(False)
        self.parameters: list[Tensor] = list(network.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.images, self.true, self.given = data.images.to(DEVICE), data.labels.to(DEVICE), given.to(DEVICE)
        self.loss = torch.zeros(len(given), device=DEVICE)
        self.prediction = torch.zeros(len(given), dtype=torch.int64, device=DEVICE)
        self.optimizer = torch.optim.SGD(self.parameters, lr=0.001, momentum=0.9, weight_decay=5e-4)
        self.crop_flip, self.normalise = CropFlip(4, True), Normalise(MEAN, STD)
        self.generator = torch.Generator(DEVICE).manual_seed(0)
        self.directory = directory
        self.eye = torch.eye(10, device=DEVICE)

    def epoch(self) -> None:
        generator = self.generator
        for index in torch.randperm(len(self.given), generator=generator, device=DEVICE).split(128):
            draws = self.crop_flip.draw(len(index), generator, DEVICE)
            images = self.normalise(self.crop_flip.apply(self.images, index, draws, (32, 32)))
            logits = self.network(images)
            labels = self.given[index]
            seen = logits.detach()
            self.loss[index] = cross_entropy(seen, labels, reduction="none")
            self.prediction[index] = seen.argmax(1)
            targets = self.eye[labels] + torch.randn(len(index), 10, generator=generator, device=DEVICE)
            loss = -(targets * log_softmax(logits, 1)).sum(1).mean()
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(self.averages, self.parameters, 0.001)
        self.write_down()

    def write_down(self) -> None:
        wrong = self.given != self.true
        agrees, is_true = (self.prediction == self.given).float(), (self.prediction == self.true).float()
        means = torch.stack(
            [
                self.loss.mean(),
                agrees.mean(),
                is_true.mean(),
                self.loss[~wrong].mean(),
                self.loss[wrong].mean(),
                agrees[wrong].mean(),
                is_true[wrong].mean(),
            ]
        ).tolist()
        with (self.directory / "metrics.csv").open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(means)
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "samples": (self.given, self.loss, self.prediction),
        }
        torch.save(state, self.directory / "last.ckpt")
