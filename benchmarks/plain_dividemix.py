"""The contender of `method=dividemix`: a plain loop with the passes and data loaders of DivideMix's authors.

After a warm-up of one epoch, an epoch predicts all training images with each network, fits a mixture to each network's
losses, trains one network after the other with MixMatch, and evaluates both together. Every loader makes its images
with torchvision's transforms, two views of each in training. Workers are not persistent, as the split changes the data
sets of each epoch; 0 or 2 workers, and the benchmark compares with the faster.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import DEVICE, synchronise
from benchmarks.usual_loop import TEST, TRAIN, PILImages
from slnlab.data.source import LabelledImages

CLASSES, HALF, TEMPERATURE, ALPHA, LAMBDA_U, RAMP = 10, 64, 0.5, 4.0, 25.0, 16


class TwoViews(Dataset[tuple[Tensor, Tensor, int, float]]):
    """Two augmented views of chosen images, the label, and the probability that it is right."""

    def __init__(self, data: PILImages, rows: np.ndarray, clean: np.ndarray) -> None:
        self.data, self.rows, self.clean = data, rows, clean

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int, float]:
        row = self.rows[number]
        (view, label), (view_2, _) = self.data[row], self.data[row]
        return view, view_2, label, float(self.clean[row])


def sharpened(probabilities: Tensor) -> Tensor:
    powers = probabilities ** (1 / TEMPERATURE)
    return powers / powers.sum(dim=1, keepdim=True)


class AuthorsLoop:
    """The loop. Each call of `epoch` trains and evaluates one epoch; the first is the warm-up."""

    def __init__(self, networks: list[nn.Module], train: LabelledImages, test: LabelledImages, workers: int) -> None:
        self.networks = [network.to(DEVICE) for network in networks]
        self.optimizers = [
            torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4) for network in networks
        ]
        self.augmented, self.plain, self.test = PILImages(train, TRAIN), PILImages(train, TEST), PILImages(test, TEST)
        self.workers = workers
        self.epochs = self.steps = 0

    def epoch(self) -> None:
        if self.epochs == 0:
            for network, optimizer in zip(self.networks, self.optimizers, strict=True):
                self.warm_up(network, optimizer)
        else:
            clean = [self.split(network) for network in self.networks]
            self.mixmatch(*self.networks, self.optimizers[0], clean[1])
            self.mixmatch(*self.networks[::-1], self.optimizers[1], clean[0])
        self.evaluate()
        self.epochs += 1

    def loader(self, data: Dataset[tuple], size: int, shuffle: bool, whole: bool = False) -> DataLoader[tuple]:
        return DataLoader(data, size, shuffle=shuffle, num_workers=self.workers, drop_last=whole)

    def warm_up(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        network.train()
        for images, labels in self.loader(self.augmented, 2 * HALF, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(network(images.to(DEVICE)), labels.to(DEVICE)).backward()
            optimizer.step()

    @torch.no_grad()
    def split(self, network: nn.Module) -> np.ndarray:
        network.eval()
        losses = [
            cross_entropy(network(images.to(DEVICE)), labels.to(DEVICE), reduction="none")
            for images, labels in self.loader(self.plain, 1000, shuffle=False)
        ]
        loss = torch.cat(losses).cpu()
        scaled = ((loss - loss.min()) / (loss.max() - loss.min())).reshape(-1, 1).numpy()
        mixture = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4).fit(scaled)
        probabilities: np.ndarray = mixture.predict_proba(scaled)[:, mixture.means_.argmin()]
        return probabilities

    def mixmatch(self, own: nn.Module, other: nn.Module, optimizer: torch.optim.Optimizer, clean: np.ndarray) -> None:
        own.train()
        other.eval()
        rows, rest = (clean > 0.5).nonzero()[0], (clean <= 0.5).nonzero()[0]
        labelled = self.loader(TwoViews(self.augmented, rows, clean), HALF, shuffle=True, whole=True)
        unlabelled = self.loader(TwoViews(self.augmented, rest, clean), HALF, shuffle=True)
        others = iter(unlabelled)
        for step, (x, x_2, label, right) in enumerate(labelled):
            try:
                u, u_2, *_ = next(others)
            except StopIteration:
                others = iter(unlabelled)
                u, u_2, *_ = next(others)
            x, x_2, u, u_2 = (images.to(DEVICE) for images in (x, x_2, u, u_2))
            with torch.no_grad():
                guesses = [network(images).softmax(dim=1) for network in (own, other) for images in (u, u_2)]
                guessed = sharpened(torch.stack(guesses).mean(dim=0))
                own_view = (own(x).softmax(dim=1) + own(x_2).softmax(dim=1)) / 2
                share = right.to(DEVICE).float().unsqueeze(1)
                given = one_hot(label.to(DEVICE), CLASSES).float()
                refined = sharpened(share * given + (1 - share) * own_view)
            weight = np.random.beta(ALPHA, ALPHA)  # noqa: NPY002
            weight = max(weight, 1 - weight)
            images, targets = torch.cat([x, x_2, u, u_2]), torch.cat([refined, refined, guessed, guessed])
            order = torch.randperm(len(images), device=images.device)
            logits = own(weight * images + (1 - weight) * images[order])
            targets = weight * targets + (1 - weight) * targets[order]
            count = 2 * len(x)
            loss = -(targets[:count] * log_softmax(logits[:count], dim=1)).sum(dim=1).mean()
            progress = self.epochs - 1 + step / len(labelled)
            squares = (logits[count:].softmax(dim=1) - targets[count:]) ** 2
            loss = loss + LAMBDA_U * min(progress / RAMP, 1) * squares.mean()
            average = logits.softmax(dim=1).mean(dim=0)
            loss = loss - (average * CLASSES).log().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.steps += 1

    @torch.no_grad()
    def evaluate(self) -> float:
        correct = 0
        for network in self.networks:
            network.eval()
        for images, labels in self.loader(self.test, 1000, shuffle=False):
            logits = sum(network(images.to(DEVICE)) for network in self.networks)
            assert isinstance(logits, Tensor)
            correct += int((logits.argmax(dim=1) == labels.to(DEVICE)).sum())
        return correct / len(self.test)


def seconds_per_step(loop: AuthorsLoop, count: int) -> list[float]:
    """Train `count` epochs; return the seconds of those after the second, for each of their optimiser steps."""
    seconds = []
    for _ in range(count):
        start, before = time.perf_counter(), loop.steps
        loop.epoch()
        synchronise()
        if loop.steps > before:
            seconds.append((time.perf_counter() - start) / (loop.steps - before))
    return seconds[1:]
