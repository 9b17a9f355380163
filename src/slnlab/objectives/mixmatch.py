"""What DivideMix (Li, Socher & Hoi, 2020) and its kin are made of: targets from predictions, and MixMatch's terms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.streams import Streams, derive


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T), divided by its sum: (B, C) rows over the classes → (B, C). T < 1 makes them surer of themselves."""
    powers = (probabilities / probabilities.amax(1, keepdim=True)) ** (1 / temperature)  # never all 0
    return powers / powers.sum(1, keepdim=True)


def co_refine(given: Tensor, clean: Tensor, views: Sequence[Tensor], temperature: float) -> Tensor:
    """Targets of labelled samples: sharpen(w·onehot + (1 − w)·mean of this network's softmaxes); equations 3 and 4.

    Args:
        given: given labels (B,).
        clean: w, the probability (B,) that a label is right, in the eyes of the other network.
        views: softmax outputs (B, C), one for each augmented view.
        temperature: T.
    """
    mean = torch.stack(list(views)).mean(0)
    w = clean.to(mean).unsqueeze(1)
    return sharpen(w * one_hot(given, mean.shape[1]) + (1 - w) * mean, temperature)


def co_guess(views: Sequence[Tensor], temperature: float) -> Tensor:
    """Targets of unlabelled samples: the sharpened mean of the softmaxes (B, C) of both networks on both views."""
    return sharpen(torch.stack(list(views)).mean(0), temperature)


def ramp_up(progress: float, epochs: int) -> float:
    """clip(progress / epochs, 0, 1): how much of λ_u counts so many epochs (with fractions) after the warm-up."""
    return min(max(progress / epochs, 0.0), 1.0) if epochs else 1.0


def prior_penalty(mean: Tensor) -> Tensor:
    """KL(uniform ‖ mean) = Σ_c (1/C) log(1/(C·mean_c)) of the batch's mean softmax (C,), a scalar ≥ 0; equation 11."""
    return -(mean * len(mean)).clamp(min=1e-30).log().mean()  # a class of which no row has any is not infinitely bad


def mixing(alpha: float, streams: Streams, step: int, rows: int, device: torch.device) -> tuple[float, Tensor]:
    """λ' = max(λ, 1 − λ) with λ ~ Beta(α, α), and each row's partner (rows,), of a step of MixMatch."""
    share = float(np.random.default_rng(derive(streams.seed, "lambda", step)).beta(alpha, alpha))
    partner = torch.randperm(rows, generator=streams("partners", step), device=device)
    return max(share, 1 - share), partner
