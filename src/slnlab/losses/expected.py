"""From the loss of every class to the loss of a sample."""

from __future__ import annotations

from torch import Tensor


def expected_loss(targets: Tensor, class_losses: Tensor) -> Tensor:
    """Loss of every sample, ⟨t, L⟩ = Σ_c t_c L_c: the expectation of L if t is a distribution.

    t may be any row: targets perturbed by label noise have negative entries and do not sum to one.

    Args:
        targets: (B, C), any dtype.
        class_losses: (B, C), floating.

    Returns:
        (B,), in the wider of the two dtypes.

    Raises:
        ValueError: the shapes differ. Class indices (B,) are no targets; see ``torch.nn.functional.one_hot``.
    """
    if targets.ndim != 2 or targets.shape != class_losses.shape:
        # Broadcasting would accept most wrong shapes.
        raise ValueError(
            f"expected_loss: targets {tuple(targets.shape)} and class losses {tuple(class_losses.shape)} "
            "must both be (B, C)"
        )
    # Autocast would run a matrix product in half precision.
    return (targets * class_losses).sum(dim=1)
