"""Rotate whole batches on the device, each image by its own angle."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate images about their centre, counter-clockwise; pixels from outside are 0.

    Each pixel takes the value of the nearest one. The result is torchvision's ``rotate`` of each single image, as in
    ``RandomRotation``.

    Args:
        images: uint8 (B, C, H, W).
        degrees: angles (B,), floating, on the device of the images.

    Returns:
        uint8 (B, C, H, W).

    Raises:
        ValueError: ``images`` is not uint8 (B, C, H, W), or there is not one angle for each.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or degrees.shape != images.shape[:1]:
        raise ValueError(
            f"rotate: images must be uint8 (B, C, H, W) with angles (B,), not {images.dtype} of shape "
            f"{tuple(images.shape)} with {tuple(degrees.shape)}"
        )
    height, width = images.shape[2:]
    angle = degrees.float().deg2rad()[:, None, None]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    cos, sin = angle.cos(), angle.sin()
    places = torch.stack([(cos * x - sin * y) * (2 / width), (sin * x + cos * y) * (2 / height)], dim=3)
    return grid_sample(images.float(), places, mode="nearest", align_corners=False).to(torch.uint8)


def draw_degrees(batch: int, largest: float, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
    """Draw angles (B,) in degrees, uniform in [−largest, largest], float32."""
    return (2 * torch.rand(batch, generator=generator, device=device) - 1) * largest
