"""What the losses that know a transition matrix share."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.errors import ConfigError


class Corrected:
    """A class-wise loss that holds a matrix (C, C), brought to a device and precision once and kept there.

    It is no module: the matrix belongs to no network's weights, checkpoint or average.

    Args:
        matrix: (C, C) float64 on the CPU.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self._held: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def matrix_for(self, losses: Tensor) -> Tensor:
        """The matrix beside `losses` (B, C).

        Raises:
            ConfigError: it is of another number of classes.
        """
        size = len(self.matrix)
        if losses.ndim != 2 or losses.shape[1] != size:
            name = type(self).__name__.lower()
            raise ConfigError(f"{name}: a transition matrix of {size} classes, but logits {tuple(losses.shape)}")
        key = (losses.device, losses.dtype)
        if key not in self._held:  # a copy in every step would wait for the device
            self._held[key] = self.matrix.to(losses.device, losses.dtype)
        return self._held[key]
