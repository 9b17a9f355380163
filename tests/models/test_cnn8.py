"""The eight layers of CNN8 and how they begin."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from slnlab.errors import ConfigError
from slnlab.models import CNN8


def test_cnn8_has_the_layers_of_the_public_code() -> None:
    network = CNN8(in_channels=3, num_classes=10, image_size=32)
    shapes = [tuple(p.shape) for name, p in network.named_parameters() if p.ndim > 1]
    convolutions = [(64, 3), (64, 64), (128, 64), (128, 128), (196, 128), (196, 196)]
    assert shapes == [*((after, before, 3, 3) for after, before in convolutions), (256, 3136), (10, 256)]
    assert sum(p.numel() for p in network.parameters()) == 1_639_794
    kinds = [type(module).__name__ for module in network.features]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"] * 3
    assert [type(module).__name__ for module in network.hidden] == ["Linear", "BatchNorm1d", "ReLU"]


def test_cnn8_begins_kaiming_and_xavier_uniform() -> None:
    """Uniform numbers with these bounds have a deviation of a bound over √3."""
    torch.manual_seed(0)
    network = CNN8(3, 10, 32)
    convolution, linear = network.features[3], network.hidden[0]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(linear, nn.Linear)
    for weight, bound in ((convolution.weight, sqrt(6 / (64 * 9))), (linear.weight, sqrt(6 / (3136 + 256)))):
        assert bound * 0.99 < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.02)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (33, 3)])
def test_cnn8_takes_other_sizes(size: int, channels: int) -> None:
    logits = CNN8(channels, 7, size)(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


def test_an_image_too_small_to_halve_three_times_is_refused() -> None:
    with pytest.raises(ConfigError, match="image_size = 7"):
        CNN8(1, 10, 7)
