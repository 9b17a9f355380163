"""Stochastic label noise, the momentum model and label correction in your own LightningModule.

    python examples/your_lightning_module.py

The data are scikit-learn's digits with 40 % of the training labels flipped. The module has ordinary DataLoaders and
automatic optimisation.
"""

import pytorch_lightning as pl
import torch
from plain_pytorch import digits
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from slnlab import LabelCorrection, MomentumModel, SampleTable, StochasticLabelNoise
from slnlab.data.indexed import IndexedDataset
from slnlab.models import SmallCNN
from slnlab.noise import symmetric


class YourModule(pl.LightningModule):
    def __init__(self, given: Tensor, sigma: float) -> None:
        super().__init__()
        self.network = SmallCNN(in_channels=1, num_classes=10)
        self.judged = {"network": self.network}  # MomentumModel adds "momentum" to it
        self.label_noise = StochasticLabelNoise(sigma)  # LabelCorrection sets its sigma to 0
        self.table = SampleTable(given, num_classes=10)  # LabelCorrection rewrites its targets

    def training_step(self, batch, batch_idx):
        index, image = batch
        targets = self.label_noise(self.table.targets(index))
        return cross_entropy(self.network(image), targets)

    def test_step(self, batch, batch_idx):
        image, label = batch
        for name, network in self.judged.items():
            self.log(f"test/{name}/accuracy", (network(image).argmax(1) == label).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)

    # The table is no part of the network, so the module moves and saves it.

    def on_fit_start(self):
        self.table.to(self.device)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["sample_table"] = self.table.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.table.load_state_dict(checkpoint["sample_table"])


def main(epochs: int = 15, correction_epochs: int = 4, sigma: float = 0.5, **trainer_options):
    pl.seed_everything(0)
    images, labels, test_images, test_labels = digits()
    given = symmetric(labels, rate=0.4, num_classes=10, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(IndexedDataset(TensorDataset(images, given)), batch_size=64, shuffle=True)
    module = YourModule(given, sigma)
    momentum = MomentumModel(decay=0.95)  # use 0.999 for longer training
    correction = LabelCorrection(correction_epochs, batches=lambda epoch: loader)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[momentum, correction], **trainer_options)
    trainer.fit(module, loader)
    trainer.test(module, DataLoader(TensorDataset(test_images, test_labels), batch_size=500))
    return module, momentum.module


if __name__ == "__main__":
    main(accelerator="auto", logger=False, enable_checkpointing=False)
