"""Backbones: images (B, in_channels, H, W) in, logits (B, num_classes) out."""

from slnlab.models.small_cnn import SmallCNN
from slnlab.models.wide_resnet import WideResNet

__all__ = ["SmallCNN", "WideResNet"]
