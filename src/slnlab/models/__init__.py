"""Backbones: images (B, in_channels, H, W), or vectors (B, in_channels), → logits (B, num_classes).

A pretrained backbone has two more methods. `prepare` fetches the weights before a run does anything slow. `start` loads
them into a new run; a resumed run has its checkpoint instead.
"""

from slnlab.models.cnn8 import CNN8
from slnlab.models.perceptron import MLP, Linear
from slnlab.models.preact_resnet import PreActResNet18
from slnlab.models.resnet import ResNet18, ResNet34, ResNet50
from slnlab.models.small_cnn import SmallCNN
from slnlab.models.strided_cnn import StridedCNN
from slnlab.models.timm_network import Timm
from slnlab.models.wide_resnet import WideResNet

__all__ = [
    "CNN8",
    "MLP",
    "Linear",
    "PreActResNet18",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "SmallCNN",
    "StridedCNN",
    "Timm",
    "WideResNet",
]
