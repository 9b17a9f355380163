"""Which labels are right, by their losses alone: a mixture of two Gaussians (Arazo et al., 2019; DivideMix)."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from slnlab.errors import Diverged, SlnlabError


class LossMixture(NamedTuple):
    """What the mixture says."""

    clean: Tensor
    """(M,) float32 on the CPU: the posterior probability, in [0, 1], that a loss belongs to the lower component."""
    noise_rate: float
    """The share of the higher component, 1 − mean(clean), in [0, 1]: an estimate of how many labels are wrong."""


def fit_loss_mixture(losses: Tensor, scale: bool = True) -> LossMixture:
    """Two Gaussians, fitted to per-sample losses in [0, 1].

    DivideMix (Li et al., 2020), section 3.1, with the settings of its public code: at most 10 iterations, tolerance
    0.01, variances of at least 5e-4. The fit is a function of the losses alone: not of their order, which
    several processes change, and its start is drawn from a fixed seed.

    Args:
        losses: (M,), finite, on any device.
        scale: bring them to [0, 1] first, the smallest to 0 and the largest to 1; otherwise they are there already.

    Returns:
        See `LossMixture`. If all losses are equal there is nothing to tell apart, and every label counts as right.

    Raises:
        Diverged: a loss is not finite.
        SlnlabError: there are fewer than two.
    """
    values = losses.detach().double().cpu()
    if len(values) < 2:
        raise SlnlabError(f"a mixture of two components needs at least two losses, not {len(values)}")
    if not values.isfinite().all():
        raise Diverged("a loss is not finite: training has diverged; a smaller optimizer.lr may help")
    low, high = values.min(), values.max()
    if low == high:
        return LossMixture(torch.ones(len(values)), 0.0)
    scaled = ((values - low) / (high - low) if scale else values).unsqueeze(1).numpy()
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten iterations are what the method says
        mixture.fit(np.sort(scaled, axis=0))
    clean = torch.from_numpy(mixture.predict_proba(scaled)[:, mixture.means_.argmin()])
    return LossMixture(clean.float(), float(1 - clean.mean()))
