"""The parts of a network: last stage and classifier, and refusals of unknown ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from slnlab.errors import ConfigError
from slnlab.models import PreActResNet18, ResNet34, SmallCNN, WideResNet
from slnlab.models.parts import Parts, parts_of


@pytest.fixture(autouse=True)
def without_values() -> Iterator[None]:
    """Networks on the meta device have names and shapes, and their initialisation takes no time."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: SmallCNN(1, 10), 1),
        (lambda: WideResNet(depth=10, widen_factor=1), 3),
        (lambda: resnet18(num_classes=10), 5),
        (lambda: PreActResNet18(1, 10), 5),
        (lambda: ResNet34(1, 10), 7),
    ],
)
def test_the_last_stage_precedes_the_classifier(make: Callable[[], nn.Module], count: int) -> None:
    """Small CNN: its fourth convolution. WRN-10: two 3x3 and a 1x1. ResNet-18: four 3x3 and a 1x1; ResNet-34: six."""
    network = make()
    parts = parts_of(network, None, None)
    stage = [m for name in parts.last_stage for m in network.get_submodule(name).modules()]
    assert sum(isinstance(module, nn.Conv2d) for module in stage) == count
    (classifier,) = (network.get_submodule(name) for name in parts.classifier)
    assert isinstance(classifier, nn.Linear)
    # In the order of the forward pass there is nothing with parameters behind them.
    inside = {
        id(p) for name in (*parts.last_stage, *parts.classifier) for p in network.get_submodule(name).parameters()
    }
    known = [id(parameter) in inside for parameter in network.parameters()]
    assert known == sorted(known)
    assert any(known)
    assert not all(known)


def test_part_names_can_be_configured() -> None:
    assert parts_of(resnet18(), ["layer4.1"], None) == Parts(("layer4.1",), ("fc",))
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Linear(2, 2))
    assert parts_of(plain, ["1"], ["2"]) == Parts(("1",), ("2",))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("make", "stage", "classifier", "message"),
    [
        (two_layers, None, None, r"method\.last_stage: Sequential does not name"),
        (two_layers, ["0"], None, r"method\.classifier: .*method\.classifier=\[1\]"),
        (resnet18, ["layer5"], None, r"method\.last_stage: ResNet has no module 'layer5'; there are conv1, "),
        (resnet18, ["fc"], None, r"method\.classifier: .* is a part of the last stage"),
        (resnet18, ["relu"], None, r"method\.last_stage: .* has no parameters"),
        (two_layers, ["0"], ["1"], r"no stem is left"),
        (
            lambda: nn.Sequential(nn.Linear(1, 2), Scaled(), nn.Linear(2, 2)),
            ["1"],
            ["2"],
            r"1 \(Scaled\) has no reset_param",
        ),
    ],
)
def test_wrong_part_names_are_named(
    make: Callable[[], nn.Module], stage: list[str] | None, classifier: list[str] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parts_of(make(), stage, classifier)
