"""Two measures of how sharp a minimum is: the largest Hessian eigenvalue, and SAM's rise of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from slnlab.figures.mean_loss import MeanLoss, norm
from slnlab.streams import Streams

TOLERANCE = 1e-3
"""Relative tolerance of the eigenvalue."""


def largest_eigenvalue(loss: MeanLoss, seed: int = 0, restarts: int = 100) -> float | None:
    """Return the largest (algebraic) eigenvalue of the Hessian of L over all parameters.

    The method is scipy's implicitly restarted Lanczos iteration (ARPACK), with Hessian-vector products by autograd.

    Args:
        loss: L, with at least two parameters.
        seed: of the first vector.
        restarts: at most so many; each needs about 20 products.

    Returns:
        The eigenvalue, with relative tolerance `TOLERANCE`; None if the iteration has not converged.
    """
    sizes = [parameter.numel() for parameter in loss.parameters]
    like = loss.parameters[0]

    def product(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        flat = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).to(like)
        parts = [part.view(p.shape) for part, p in zip(flat.split(sizes), loss.parameters, strict=True)]
        found = torch.cat([part.reshape(-1) for part in loss.hessian_times(parts)])
        return np.asarray(found.double().cpu().numpy())

    operator = LinearOperator((sum(sizes), sum(sizes)), matvec=product, dtype=np.float64)
    first = torch.randn(sum(sizes), generator=Streams(seed)("first vector"), dtype=torch.float64).numpy()
    try:
        found = eigsh(operator, k=1, which="LA", v0=first, tol=TOLERANCE, maxiter=restarts, return_eigenvectors=False)
    except ArpackNoConvergence:
        return None
    return float(found[0])


def sam_sharpness(loss: MeanLoss, radii: Sequence[float]) -> list[float]:
    """Return L(w + ε) − L(w) for each radius ρ, with SAM's first-order ε = ρ·∇L / ‖∇L‖₂ (Foret et al. 2021, eq. 2).

    It approximates max over ‖ε‖₂ ≤ ρ of L(w + ε) − L(w). At ∇L = 0 it is 0.

    Args:
        loss: L.
        radii: each ρ ≥ 0.
    """
    gradient: list[Tensor] = loss.gradient()
    length, here = norm(gradient), loss.at()
    if not length:
        return [0.0 for _ in radii]
    return [loss.at([radius / length * part for part in gradient]) - here for radius in radii]
