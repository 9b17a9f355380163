"""Predictions in parts equal those of the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from slnlab.models import SmallCNN, WideResNet
from slnlab.models.predicting import predict


class Sizes(nn.Module):
    """Notes the batch sizes that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(len(images))
        return images.flatten(1)[:, :2]


@pytest.mark.parametrize(
    "network", [SmallCNN(3, 10), WideResNet(depth=10, widen_factor=1)], ids=["SmallCNN", "WRN-10-1"]
)
def test_parts_give_the_same_bits(network: nn.Module) -> None:
    images = torch.randn(210, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    network = network.to(memory_format=torch.channels_last)
    with torch.no_grad():
        whole = network.eval()(images)
    assert torch.equal(predict(network, images), whole)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1000, 3, 32, 32), [100] * 10),
        ((70, 3, 224, 224), [18, 18, 18, 16]),  # not one by one
        ((1000, 1, 8, 8), [1000]),
        ((5, 3, 224, 224), [5]),
        ((4000, 20), [4000]),  # vectors
    ],
)
def test_parts_are_equal_and_of_a_cache_size(shape: tuple[int, ...], sizes: list[int]) -> None:
    network, images = Sizes().train(), torch.empty(()).expand(shape)
    assert predict(network, images).shape == (shape[0], 2)
    assert network.seen == sizes
    assert network.training  # as before
