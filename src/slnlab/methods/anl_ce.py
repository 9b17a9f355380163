"""Active negative loss with an L1 penalty on the parameters (Ye et al., 2023)."""

from __future__ import annotations

from typing import Any, ClassVar

from slnlab.methods.l1_penalty import L1Penalty


class ActiveNegativeLoss(L1Penalty):
    """Active negative loss + δ·Σ_θ|θ|, see `L1Penalty`.

    Args:
        network, l1, options: see `L1Penalty`.
    """

    fixed: ClassVar[dict[str, Any]] = {"loss.name": "anl_ce"}
