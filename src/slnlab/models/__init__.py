"""Backbones: images (B, in_channels, H, W) in, logits (B, num_classes) out.

One that starts from weights of elsewhere has two methods more: `prepare`, which fetches them before anything that takes
time, and `start`, which takes them up in a run that does not go on from a checkpoint.
"""

from slnlab.models.resnet50 import ResNet50
from slnlab.models.small_cnn import SmallCNN
from slnlab.models.wide_resnet import WideResNet

__all__ = ["ResNet50", "SmallCNN", "WideResNet"]
