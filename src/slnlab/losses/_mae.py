"""Mean absolute error (Ghosh, Kumar & Sastry, 2017)."""

from __future__ import annotations

from torch import Tensor

from slnlab.losses._gce import gce


def mae(logits: Tensor) -> Tensor:
    """Mean absolute error of every class, L_c = ‖onehot(c) − S‖₁ = 2(1 − S_c) with S = softmax(logits).

    Despite its name it is a sum over the classes: Ghosh, Kumar & Sastry (2017) define it so, and the field reports it
    so. For a target that is not one-hot, ⟨t, L⟩ is the linear extension, not ‖t − S‖₁.

    Args:
        logits: (B, C), finite; float32 or float64. float16 and bfloat16 are computed and returned in float32.

    Returns:
        (B, C), in [0, 2].
    """
    return 2 * gce(logits, q=1.0)
