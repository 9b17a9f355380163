"""Predictions of a network for many images at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slnlab.models.modes import evaluating

PIXELS = 100 * 32 * 32
"""Pixels per part: the activations of 100 images of CIFAR's size stay in a CPU's cache, those of 1,000 do not."""

FEWEST = 16
"""Fewest images per part, since small matrix products are slow."""


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """The outputs (B, …) of a network in eval mode for its inputs (B, …). Afterwards its mode is restored.

    On a CPU, images (B, channels, H, W) go through the network in equal parts, which takes half the time and a tenth
    of the memory for a small network. Convolutional networks give the same bits as with all images at once.
    """
    parts = 1
    if images.ndim == 4 and images.device.type == "cpu":
        pixels = images.shape[0] * images.shape[2] * images.shape[3]
        parts = max(1, min(-(-pixels // PIXELS), len(images) // FEWEST))
    with evaluating(network):
        outputs = [network(part) for part in images.chunk(parts)]
    return outputs[0] if parts == 1 else torch.cat(outputs)
