"""Class-wise losses: logits (B, C) → the loss that each class would incur as the label (B, C).

What a sample incurs is its row weighed by its target, :func:`expected_loss`; so label noise on the target,
soft targets, label smoothing and mixup compose with every loss here without its knowing.

Each file holds one function of its own name; import it from here. Those that need a transition matrix have a class
beside the function, which checks or inverts the matrix once: :class:`Forward`, :class:`Backward`.
"""

from slnlab.losses._anl_ce import anl_ce
from slnlab.losses._backward import Backward, backward
from slnlab.losses._cross_entropy import cross_entropy
from slnlab.losses._forward import Forward, forward
from slnlab.losses._gce import gce
from slnlab.losses._label_smoothing import label_smoothing
from slnlab.losses._mae import mae
from slnlab.losses._nce import nce
from slnlab.losses._nce_rce import nce_rce
from slnlab.losses._phuber_ce import phuber_ce
from slnlab.losses._reverse_ce import reverse_ce
from slnlab.losses._sce import sce
from slnlab.losses.expected import expected_loss

__all__ = [
    "Backward",
    "Forward",
    "anl_ce",
    "backward",
    "cross_entropy",
    "expected_loss",
    "forward",
    "gce",
    "label_smoothing",
    "mae",
    "nce",
    "nce_rce",
    "phuber_ce",
    "reverse_ce",
    "sce",
]
