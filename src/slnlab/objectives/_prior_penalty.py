"""The penalty on predictions that prefer some classes over a whole batch (Tanaka et al. 2018; Li et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from slnlab.objectives._precision import in_full
from slnlab.processes.distributed import sum_of_processes


def prior_penalty(mean: Tensor) -> Tensor:
    """Mean softmax (C,) of a batch → KL(uniform ‖ mean) = Σ_c (1/C) log(1/(C·mean_c)), a scalar ≥ 0.

    Equation 11 of DivideMix (Li, Socher & Hoi, 2020). Where a batch has hardly more samples than there are classes, the
    penalty of right and confident predictions is not near 0 either.
    """
    return -(in_full(mean) * len(mean)).clamp(min=1e-30).log().mean()  # a class of probability 0 has a finite penalty


def batch_prior_penalty(likely: Tensor, total: int) -> Tensor:
    """`prior_penalty` of the batch of all processes, a scalar; every process must call it.

    Args:
        likely: S of this process's rows (B, C). The gradient is theirs, so the sum of all processes' is the batch's.
        total: number of rows of all processes.
    """
    sums = in_full(likely).sum(0)
    elsewhere = sum_of_processes(sums.detach()) - sums.detach()
    return prior_penalty((sums + elsewhere) / total)
