"""Stochastic label noise, the momentum model and label correction in your own PyTorch loop.

    python examples/plain_pytorch.py

The data are scikit-learn's digits with 40 % of the training labels flipped.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from slnlab import MomentumAverage, SampleTable, StochasticLabelNoise, correct_labels
from slnlab.data.indexed import IndexedDataset
from slnlab.models import SmallCNN
from slnlab.noise import symmetric


def main(epochs: int = 15, correction_epochs: int = 4, sigma: float = 0.5):
    torch.manual_seed(0)
    images, labels, test_images, test_labels = digits()
    given = symmetric(labels, rate=0.4, num_classes=10, generator=torch.Generator().manual_seed(0))

    table = SampleTable(given, num_classes=10)  # holds the targets
    loader = DataLoader(IndexedDataset(TensorDataset(images, given)), batch_size=64, shuffle=True)
    network = SmallCNN(in_channels=1, num_classes=10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    label_noise = StochasticLabelNoise(sigma)
    momentum = MomentumAverage(network, decay=0.95)  # use 0.999 for longer training
    momentum.follow(optimizer)  # every optimizer.step() now updates momentum.module

    for epoch in range(epochs):
        if epoch >= epochs - correction_epochs:
            label_noise.sigma = 0.0
            correct_labels(table, momentum.module, loader)
        for index, image in loader:
            targets = label_noise(table.targets(index))
            loss = cross_entropy(network(image), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    for name, model in (("network", network), ("momentum model", momentum.module)):
        print(f"test accuracy of the {name}: {accuracy(model, test_images, test_labels):.1%}")
    return network, momentum.module, table, label_noise


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    train, test = train_test_split(range(len(labels)), test_size=500, stratify=labels, random_state=0)
    images, labels = torch.from_numpy(images).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(labels)
    return images[train], labels[train], images[test], labels[test]


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    return (network(images).argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    main()
