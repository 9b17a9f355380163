"""Class-wise losses: logits (B, C) → the loss that each class would incur as the label (B, C).

What a sample incurs is its row weighed by its target, :func:`expected_loss`; so label noise on the target,
soft targets, label smoothing and mixup compose with every loss here without its knowing.

Each file holds one function of its own name; import it from here.
"""

from slnlab.losses.cross_entropy import cross_entropy
from slnlab.losses.expected import expected_loss
from slnlab.losses.gce import gce
from slnlab.losses.mae import mae

__all__ = ["cross_entropy", "expected_loss", "gce", "mae"]
