"""mixup (Zhang, Cisse, Dauphin & Lopez-Paz, 2018): training on mixtures of two samples."""

from __future__ import annotations

import torch
from torch import Tensor

from slnlab.data.batches import Batch
from slnlab.streams import Streams, beta


def mixup_partners(batch: Batch, alpha: float, streams: Streams, step: int) -> tuple[float, Tensor, Tensor]:
    """Draw the partner of each sample from the global batch, and the common share.

    The mixture is λ·x_i + (1 − λ)·x_π(i) with targets λ·t_i + (1 − λ)·t_π(i); one λ ~ Beta(α, α) serves the whole
    batch, and π is a random permutation of it (equation 1 and algorithm of the paper). For a class-wise loss this is
    λ·ℓ(t_i) + (1 − λ)·ℓ(t_π(i)), as in the authors' code. They take α = 1 on clean and 8 or 32 on noisy labels.

    Args:
        batch: this process's part of a global batch. In a process group all processes must call it together.
        alpha: α > 0.
        streams: streams of the run's seed.
        step: number of the optimiser step; the draws depend on seed and step alone.

    Returns:
        (λ, the partners' rows of the sample table (B,), their images (B, …)).
    """
    share = beta(alpha, streams.seed, "mixup", step)
    partner = batch.shard.of(
        torch.randperm(batch.shard.total, generator=streams("mixup", step), device=batch.index.device)
    )
    return share, batch.shard.gather(batch.index)[partner], batch.shard.gather(batch.image)[partner]
