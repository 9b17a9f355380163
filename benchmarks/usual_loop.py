"""The baseline: the field's usual training loop, in the style of a careful paper repository.

The algorithm is that of our `method=sln`: SLN on one-hot targets, SGD, the momentum model, and an evaluation of both
after every epoch. Network, batch, test batch and threads agree, too. A researcher would otherwise use such a loop:

- A `Dataset` behind a `DataLoader` applies torchvision transforms to PIL images, sample by sample. `num_workers` is 0
  or 2, and the benchmark compares with the faster. Workers are persistent, so their start does not count.
- Each step calls `loss.item()` for the running loss, and computes the accuracy.
- The momentum model is updated tensor by tensor, for parameters and floating-point buffers.
- SLN noise is drawn on the CPU and moved to the device, as in the authors' code.
- Memory layout and optimiser are PyTorch's defaults.

The loop has an advantage: it has no progress bar, checkpoint or record of memorisation. Our epochs have the latter two.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.made import MEAN, STD
from benchmarks.measure import DEVICE
from slnlab.data.source import LabelledImages

TRAIN = transforms.Compose(
    [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)
TEST = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


class PILImages(Dataset[tuple[Tensor, int]]):
    """A data set like torchvision's CIFAR10: arrays (H, W, channels), one PIL image per sample."""

    def __init__(self, data: LabelledImages, transform: transforms.Compose) -> None:
        self.images: np.ndarray = data.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels: list[int] = data.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class UsualLoop:
    """The usual loop. Each call of `epoch` trains and evaluates one epoch."""

    def __init__(
        self,
        network: nn.Module,
        train: LabelledImages,
        test: LabelledImages,
        *,
        workers: int,
        num_classes: int = 10,
        sigma: float = 1.0,
        decay: float = 0.999,
        batch_size: int = 128,
        eval_batch_size: int = 1000,
    ) -> None:
        self.device = torch.device(DEVICE)
        network = network.to(self.device)
        self.network, self.average = network, copy.deepcopy(network)
        self.num_classes, self.sigma, self.decay = num_classes, sigma, decay
        self.train_loader = DataLoader(
            PILImages(train, TRAIN),
            batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=DEVICE == "cuda",
        )
        self.test_loader = DataLoader(
            PILImages(test, TEST), eval_batch_size, num_workers=workers, persistent_workers=workers > 0
        )
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)

    def epoch(self) -> dict[str, float]:
        self.network.train()
        total, correct, seen = 0.0, 0, 0
        for images, labels in self.train_loader:
            images, labels = images.to(self.device), labels.to(self.device)
            targets = one_hot(labels, self.num_classes).float()
            targets = targets + self.sigma * torch.randn(targets.shape).to(self.device)
            logits = self.network(images)
            loss = -(targets * log_softmax(logits, dim=1)).sum(dim=1).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.update_average()
            total += loss.item() * len(labels)
            correct += (logits.argmax(dim=1) == labels).sum().item()
            seen += len(labels)
        results = {"train loss": total / seen, "train accuracy": correct / seen}
        for name, network in (("network", self.network), ("momentum", self.average)):
            results |= self.evaluate(name, network)
        return results

    @torch.no_grad()
    def update_average(self) -> None:
        for average, current in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.mul_(self.decay).add_(current, alpha=1 - self.decay)
        for mean, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            if mean.is_floating_point():
                mean.mul_(self.decay).add_(now, alpha=1 - self.decay)

    @torch.no_grad()
    def evaluate(self, name: str, network: nn.Module) -> dict[str, float]:
        network.eval()
        total, correct, seen = 0.0, 0, 0
        for images, labels in self.test_loader:
            images, labels = images.to(self.device), labels.to(self.device)
            logits = network(images)
            total += cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(dim=1) == labels).sum().item()
            seen += len(labels)
        return {f"{name} loss": total / seen, f"{name} accuracy": correct / seen}
