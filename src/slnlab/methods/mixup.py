"""mixup (Zhang, Cisse, Dauphin & Lopez-Paz, 2018): learn from mixtures of two samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slnlab.data.batches import Batch
from slnlab.processes.distributed import gather
from slnlab.streams import Streams, derive


def mixup_partners(batch: Batch, alpha: float, streams: Streams, step: int) -> tuple[float, Tensor, Tensor]:
    """Which sample of the global batch each one is mixed with, and in which proportion.

    The mixture is λ·x_i + (1 − λ)·x_π(i) with targets λ·t_i + (1 − λ)·t_π(i), λ ~ Beta(α, α) one for the whole
    batch and π a random permutation of it (equation 1 of the paper and its algorithm). For a class-wise loss that is
    λ·ℓ(t_i) + (1 − λ)·ℓ(t_π(i)), as the authors' code has it. They take α = 1 on clean and 8 or 32 on noisy labels.

    Args:
        batch: this process's part of a global batch. In a process group all processes must call it together.
        alpha: α > 0.
        streams: of the run's seed.
        step: the number of the optimiser step; the draws depend on nothing else.

    Returns:
        (λ, the partners' rows of the sample table (B,), their images (B, …)).
    """
    # λ is drawn on the host: a number from the device would have to be waited for.
    share = float(np.random.default_rng(derive(streams.seed, "mixup", step)).beta(alpha, alpha))
    partner = batch.shard.of(
        torch.randperm(batch.shard.total, generator=streams("mixup", step), device=batch.index.device)
    )
    return share, gather(batch.index)[partner], gather(batch.image)[partner]
