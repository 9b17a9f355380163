"""Base class of the losses with a transition matrix."""

from __future__ import annotations

from math import log, log1p

import torch
from torch import Tensor

from slnlab.errors import ConfigError
from slnlab.losses._cross_entropy import cross_entropy


class Corrected:
    """A class-wise loss with a matrix (C, C), copied once to each device and precision.

    It is no module: the matrix belongs to no network's weights, checkpoint or average.

    Args:
        matrix: (C, C) float64 on the CPU.
        clip: in (0, 1/2), or None.

    Raises:
        ConfigError: ``clip`` is outside its range.
    """

    def __init__(self, matrix: Tensor, clip: float | None = None) -> None:
        if clip is not None and not 0.0 < clip < 0.5:
            raise ConfigError(f"{self._name}: clip = {clip}, but it must be in (0, 1/2), or None")
        self.matrix, self.clip = matrix, clip
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    def clipped(self, logits: Tensor) -> Tensor:
        """Logits (B, C) → −log S (B, C), with S clipped to [clip, 1 − clip]. A clipped S has no gradient."""
        losses = cross_entropy(logits)
        return losses if self.clip is None else losses.clamp(-log1p(-self.clip), -log(self.clip))

    def matrix_for(self, losses: Tensor) -> Tensor:
        """Return the matrix on the device and in the precision of `losses` (B, C).

        Raises:
            ConfigError: the matrix has another number of classes.
        """
        size = len(self.matrix)
        if losses.ndim != 2 or losses.shape[1] != size:
            raise ConfigError(f"{self._name}: a transition matrix of {size} classes, but logits {tuple(losses.shape)}")
        key = (losses.device, losses.dtype)
        if key not in self._copies:  # a copy in every step would wait for the device
            with torch.inference_mode(False):  # a copy made in an evaluation serves training too
                self._copies[key] = self.matrix.to(losses.device, losses.dtype)
        return self._copies[key]
