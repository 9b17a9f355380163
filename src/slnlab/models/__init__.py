"""Backbones: images (B, in_channels, H, W) in, logits (B, num_classes) out.

One that starts from weights of elsewhere has two methods more: `prepare`, which fetches them before anything that takes
time, and `start`, which takes them up in a run that does not go on from a checkpoint.
"""

from slnlab.models.preact_resnet import PreActResNet18
from slnlab.models.resnet import ResNet18, ResNet34, ResNet50
from slnlab.models.small_cnn import SmallCNN
from slnlab.models.wide_resnet import WideResNet

__all__ = ["PreActResNet18", "ResNet18", "ResNet34", "ResNet50", "SmallCNN", "WideResNet"]
