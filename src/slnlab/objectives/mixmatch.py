"""Parts of DivideMix (Li, Socher & Hoi, 2020) and related methods: targets from predictions, and MixMatch's terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from slnlab.processes.distributed import Shard
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


def linear_ramp(progress: float, epochs: int) -> float:
    """Share of λ_u at `progress` epochs (with fractions) after the warm-up, clip(progress / epochs, 0, 1)."""
    return min(max(progress / epochs, 0.0), 1.0) if epochs else 1.0


def mixing(alpha: float, streams: Streams, step: int, rows: int, device: torch.device) -> tuple[float, Tensor]:
    """Draw the mixture of a MixMatch step: λ' = max(λ, 1 − λ) with λ ~ Beta(α, α), and each row's partner (rows,)."""
    share = beta(alpha, streams.seed, "lambda", step)
    partner = torch.randperm(rows, generator=streams("partners", step), device=device)
    return max(share, 1 - share), partner


def mixed(rows: Tensor, share: float, partner: Tensor, part: Shard) -> Tensor:
    """This process's part (M, …) of the mixtures λ'·x_i + (1 − λ')·x_π(i) of all rows x (N, …)."""
    return share * part.of(rows) + (1 - share) * rows[part.of(partner)]


def mixmatch_loss(
    losses: Tensor, targets: Tensor, part: Shard, labelled: int, weight: float, class_weights: Tensor | None = None
) -> Tensor:
    """This process's share of mean Σ_c w_c t_c ℓ_c + weight · mean (S_c − t_c)², a scalar.

    The first mean is over the labelled rows, the second over the unlabelled rows and the classes.

    Args:
        losses: cross entropies ℓ = −log S of every class (M, C), of this process's rows.
        targets: t (M, C), of the same rows.
        part: the place of these rows in the batch, whose labelled rows come first.
        labelled: number of labelled rows of the batch, at least 1.
        weight: of the second mean, ≥ 0.
        class_weights: w (C,); None: ones.
    """
    own = max(min(labelled, part.stop) - part.start, 0)
    fit = targets * losses if class_weights is None else class_weights * targets * losses
    loss = fit[:own].sum() / labelled
    if weight and part.total > labelled:
        errors = ((torch.exp(-losses) - targets) ** 2)[own:]
        loss = loss + weight * errors.sum() / ((part.total - labelled) * losses.shape[1])
    return loss
