"""Votes of the nearest neighbours in feature space, on the device of the features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from slnlab.processes.distributed import gather, shard

AT_ONCE = 1024
"""Rows that are compared with all references at once."""


@torch.no_grad()
def neighbour_votes(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    neighbours: int,
    *,
    references: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The labels of the nearest samples by cosine similarity, the sample itself among them.

    In a process group all processes must call it with the same arguments; each compares its part of the samples. The
    memory grows with N, and with `references` the time does too.

    Args:
        features: (N, D).
        labels: (N,) int64 in [0, C).
        num_classes: C.
        neighbours: number k ≥ 1; if there are fewer references, all vote.
        references: largest number of samples that vote; more are drawn from. None: all.
        generator: draws these samples; on the device of the features.

    Returns:
        Shares (N, C) float32 of the k votes; rows sum to 1.
    """
    unit, votes = normalize(features, dim=1), one_hot(labels, num_classes)
    every = torch.arange(len(unit), device=unit.device)
    voters, known, voting = every, unit, votes
    if references is not None and references < len(unit):
        voters = torch.randperm(len(unit), generator=generator, device=unit.device)[:references]
        known, voting = unit[voters], votes[voters]
    k = min(neighbours, len(voters))

    def of(rows: Tensor) -> Tensor:
        # Below every cosine: a sample is no neighbour of itself, yet it votes.
        near = (unit[rows] @ known.T).masked_fill_(voters == rows.unsqueeze(1), -2)
        return votes[rows] + voting[near.topk(k - 1).indices].sum(1)

    parts = [of(rows) for rows in shard(len(unit)).of(every).split(AT_ONCE)]
    found = torch.cat(parts) if parts else votes[:0]
    return gather(found) / k
