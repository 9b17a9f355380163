"""A mixture of two Gaussians that separates right from wrong labels by their losses (Arazo et al., 2019; DivideMix)."""

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
    """A fitted mixture."""

    clean: Tensor
    """(M,) float32 on the CPU: posterior probability, in [0, 1], that a loss belongs to the lower component."""
    noise_rate: float
    """Estimated noise rate in [0, 1]: 1 − mean(clean), the share of the higher component."""


def fit_loss_mixture(losses: Tensor, scale: bool = True) -> LossMixture:
    """Fit two Gaussians to per-sample losses.

    The fit follows DivideMix (Li et al., 2020), section 3.1, with the settings of its public code: at most 10
    iterations, tolerance 0.01, variances of at least 5e-4. The start has a fixed seed, and the order of the losses
    does not matter, as several processes change it.

    Args:
        losses: (M,), M ≥ 2, finite, on any device.
        scale: map the losses linearly to [0, 1] first; False: they lie in [0, 1] already.

    Returns:
        The mixture. If all losses are equal, every label counts as right.

    Raises:
        Diverged: a loss is not finite.
        SlnlabError: M is below two.
    """
    values = losses.detach().cpu().double()
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
        warnings.simplefilter("ignore", ConvergenceWarning)  # the method prescribes ten iterations
        mixture.fit(np.sort(scaled, axis=0))
    clean = torch.from_numpy(mixture.predict_proba(scaled)[:, mixture.means_.argmin()])
    return LossMixture(clean.float(), float(1 - clean.mean()))
