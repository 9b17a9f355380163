"""Parts of DivideMix (Li, Socher & Hoi, 2020) and related methods: targets from predictions, and MixMatch's terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.streams import Streams, beta


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """Sharpen class probabilities: p (B, C) → p^(1/T) divided by its sum (B, C). T < 1 raises the confidence."""
    powers = (probabilities / probabilities.amax(1, keepdim=True)) ** (1 / temperature)  # never all 0
    return powers / powers.sum(1, keepdim=True)


def co_refine(given: Tensor, clean: Tensor, views: Sequence[Tensor], temperature: float) -> Tensor:
    """Targets (B, C) of labelled samples, sharpen(w·onehot + (1 − w)·mean of the views); equations 3 and 4.

    Args:
        given: given labels (B,).
        clean: w (B,), the other network's probability of a correct label.
        views: softmax outputs (B, C) of this network, one for each augmented view.
        temperature: T > 0.
    """
    mean = torch.stack(list(views)).mean(0)
    w = clean.to(mean).unsqueeze(1)
    return sharpen(w * one_hot(given, mean.shape[1]) + (1 - w) * mean, temperature)


def co_guess(views: Sequence[Tensor], temperature: float) -> Tensor:
    """Targets (B, C) of unlabelled samples: the sharpened mean of both networks' softmaxes (B, C) on all views."""
    return sharpen(torch.stack(list(views)).mean(0), temperature)


def ramp_up(progress: float, epochs: int) -> float:
    """Share of λ_u at `progress` epochs (with fractions) after the warm-up, clip(progress / epochs, 0, 1)."""
    return min(max(progress / epochs, 0.0), 1.0) if epochs else 1.0


def mixing(alpha: float, streams: Streams, step: int, rows: int, device: torch.device) -> tuple[float, Tensor]:
    """Draw the mixture of a MixMatch step: λ' = max(λ, 1 − λ) with λ ~ Beta(α, α), and each row's partner (rows,)."""
    share = beta(alpha, streams.seed, "lambda", step)
    partner = torch.randperm(rows, generator=streams("partners", step), device=device)
    return max(share, 1 - share), partner
