"""Shifted Gaussian noise (SGN; Englesson & Azizpour, 2024): labels as log-ratios with a noise that is predicted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from slnlab.objectives._precision import in_full


def shifted_gaussian(
    logits: Tensor, directions: Tensor, averages: Tensor, shift: float, smoothing: float = 0.001
) -> Tensor:
    """The loss that each class would incur as the label, −log N(t_c; μ + f·(t_c − μ̄), (I + r rᵀ)²).

    t_c = H log s_c are the isometric log-ratios of the smoothed label s_c = (1 − ℓ)·onehot(c) + ℓ/C, with the
    Helmert matrix H ((C − 1)×C, orthonormal rows that sum to zero). μ = H·logits, μ̄ = H·averages, r = H·directions;
    softmax(Hᵀμ) is then softmax(logits). Gradient descent moves H·logits as it would move C − 1 outputs. With
    d = (1 − f)·t_c + f·μ̄ − μ the loss is

        ½‖d − r(r·d)/(1 + ‖r‖²)‖² + log(1 + ‖r‖²) + ((C − 1)/2)·log 2π.

    Nothing here needs H, because HᵀH subtracts the mean over the classes.

    Args:
        logits, directions: two outputs (B, C) of the network.
        averages: logits (B, C) of the network's weight average, without gradient.
        shift: f in [0, 1]: 0 at the start, where the label is the target; 1: the average's prediction alone.
        smoothing: ℓ in (0, 1).

    Returns:
        (B, C), float64 for float64 logits, else float32. A target weighs these losses (`expected_loss`).
    """
    mean, direction, average = (_centred(each) for each in (logits, directions, averages))
    classes = logits.shape[1]
    # t_c is `length` times the c-th column of H. In centred coordinates that is onehot(c) − 1/C.
    length = (1 - shift) * math.log1p((1 - smoothing) * classes / smoothing)
    rest = shift * average - mean  # d without the label's part
    spread = (direction**2).sum(1, keepdim=True)
    distances = length**2 * (1 - 1 / classes) + 2 * length * rest + (rest**2).sum(1, keepdim=True)
    along = length * direction + (direction * rest).sum(1, keepdim=True)
    squares = distances - along**2 * (2 + spread) / (1 + spread) ** 2
    return squares / 2 + torch.log1p(spread) + (classes - 1) / 2 * math.log(2 * math.pi)


def _centred(outputs: Tensor) -> Tensor:
    full = in_full(outputs)
    return full - full.mean(1, keepdim=True)
