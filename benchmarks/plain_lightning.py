"""The contender with Lightning: each method as a LightningModule, written by a careful user.

Data come as in `usual_loop`: torchvision's transforms on PIL images in a `DataLoader` with persistent workers. The
modules log loss and accuracy per epoch with torchmetrics, to a CSV file, and Lightning saves a checkpoint per epoch.
The momentum model is PyTorch's `AveragedModel` with its fused update. Progress bar and model summary are off.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize, one_hot
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.measure import DEVICE
from benchmarks.our_run import EpochClock
from benchmarks.usual_loop import TEST, TRAIN, PILImages
from slnlab.data.source import LabelledImages

CLASSES = 10


class Numbered(Dataset[tuple[int, Tensor, int]]):
    """A data set whose items begin with their number."""

    def __init__(self, data: PILImages) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[int, Tensor, int]:
        return index, *self.data[index]


class CrossEntropy(pl.LightningModule):
    """Plain training; the other methods override `loss`."""

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__()
        self.network = network
        self.train_accuracy = MulticlassAccuracy(CLASSES, average="micro")
        self.test_accuracy = nn.ModuleList(MulticlassAccuracy(CLASSES, average="micro") for _ in range(2))

    def judged(self) -> list[nn.Module]:
        return [self.network]

    def loss(self, index: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor | None:
        index, images, labels = batch
        logits = self.network(images)
        loss = self.loss(index, logits, labels)
        self.write_down(loss, logits, labels)
        return loss

    def write_down(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.train_accuracy(logits, labels)
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        _, images, labels = batch
        for number, network in enumerate(self.judged()):
            logits = network(images)
            self.test_accuracy[number](logits, labels)
            self.log(f"test/loss_{number}", cross_entropy(logits, labels))
            self.log(f"test/accuracy_{number}", self.test_accuracy[number])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)


class StochasticLabels(CrossEntropy):
    """SLN with σ = 1 and the momentum model."""

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__(network, samples)
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)

    def judged(self) -> list[nn.Module]:
        return [self.network, self.average]

    def loss(self, index: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        targets = one_hot(labels, CLASSES).float()
        targets = targets + torch.randn_like(targets)
        return -(targets * log_softmax(logits, dim=1)).sum(dim=1).mean()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.average.update_parameters(self.network)


class GeneralisedCrossEntropy(CrossEntropy):
    """GCE with q = 0.7."""

    def loss(self, index: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        likely = logits.softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
        return ((1 - likely**0.7) / 0.7).mean()


class EarlyLearning(CrossEntropy):
    """ELR with λ = 3 and β = 0.7."""

    running: Tensor

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__(network, samples)
        self.register_buffer("running", torch.zeros(samples, CLASSES))

    def loss(self, index: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        likely = logits.softmax(dim=1).clamp(1e-4, 1 - 1e-4)
        newest = normalize(likely.detach(), p=1, dim=1)
        self.running[index] = 0.7 * self.running[index] + 0.3 * newest
        penalty = (1 - (self.running[index] * likely).sum(dim=1)).log().mean()
        return cross_entropy(logits, labels) + 3 * penalty


class CoTeaching(CrossEntropy):
    """Co-teaching; the share of forgotten samples rises to 0.4 within ten epochs."""

    def __init__(self, network: nn.Module, samples: int) -> None:
        super().__init__(network, samples)
        self.other = copy.deepcopy(network)
        self.automatic_optimization = False

    def judged(self) -> list[nn.Module]:
        return [self.network, self.other]

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        _, images, labels = batch
        logits, other = self.network(images), self.other(images)
        count = int((1 - 0.4 * min(self.current_epoch / 10, 1)) * len(labels))
        losses = cross_entropy(logits, labels, reduction="none")
        losses_2 = cross_entropy(other, labels, reduction="none")
        picked, picked_2 = losses.detach().argsort()[:count], losses_2.detach().argsort()[:count]
        optimizers: Any = self.optimizers()
        for optimizer, loss in zip(optimizers, (losses[picked_2].mean(), losses_2[picked].mean()), strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.write_down(losses.mean(), logits, labels)

    def configure_optimizers(self) -> Any:
        options = {"lr": 0.001, "momentum": 0.9, "weight_decay": 5e-4}
        return [torch.optim.SGD(network.parameters(), **options) for network in self.judged()]


MODULES: dict[str, type[CrossEntropy]] = {
    "ce": CrossEntropy,
    "sln": StochasticLabels,
    "gce": GeneralisedCrossEntropy,
    "elr": EarlyLearning,
    "co_teaching": CoTeaching,
}


def epochs(
    method: str, network: nn.Module, train: LabelledImages, test: LabelledImages, *, workers: int, count: int
) -> list[float]:
    """Train and evaluate `count` epochs; return the seconds of every epoch but the first."""

    def loader(data: LabelledImages, transform: Any, **options: Any) -> DataLoader[tuple[int, Tensor, int]]:
        return DataLoader(
            Numbered(PILImages(data, transform)),
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=DEVICE == "cuda",
            **options,
        )

    clock = EpochClock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="cpu" if DEVICE == "cpu" else "gpu",
            devices=1,
            max_epochs=count,
            callbacks=[clock],
            logger=CSVLogger(folder),
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(
            MODULES[method](network, len(train.labels)),
            loader(train, TRAIN, batch_size=128, shuffle=True),
            loader(test, TEST, batch_size=1000),
        )
    return clock.seconds
